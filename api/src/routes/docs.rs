//! The contract, for programs and for people.

use crate::contract::Served;
use actix_web::middleware::DefaultHeaders;
use actix_web::{HttpResponse, get, web};
use utoipa_swagger_ui::{Config, SwaggerUi};

/// The page is Swagger UI's own files, which need these and nothing from elsewhere.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/// The contract as JSON, and `/docs/`, where it can be read and tried.
pub fn routes(config: &mut web::ServiceConfig) {
    let page = SwaggerUi::new("/{_:.*}").config(
        Config::new(["/openapi.json"])
            // Its badge would send the contract's address to a service elsewhere.
            .validator_url("none")
            .filter(true)
            .display_operation_id(true)
            .persist_authorization(false),
    );
    let headers = DefaultHeaders::new().add(("content-security-policy", PAGE_POLICY));
    config
        .service(openapi_document)
        .service(web::redirect("/docs", "/docs/"))
        .service(web::scope("/docs").wrap(headers).service(page));
}

/// The contract, made from the code.
#[get("/openapi.json")]
async fn openapi_document(served: web::Data<Served>) -> HttpResponse {
    HttpResponse::Ok().json(&served.document)
}
