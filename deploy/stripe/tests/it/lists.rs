//! Lists by pages and filters, and what can be expanded.

use futures::TryStreamExt;
use stripe_core::customer::ListCustomer;
use stripe_misc::webhook_endpoint::{
    CreateWebhookEndpoint, CreateWebhookEndpointEnabledEvents, ListWebhookEndpoint,
};
use stripe_product::price::ListPrice;

use crate::support::{World, text};

#[tokio::test]
async fn pages_go_forward_and_backward() {
    let world = World::new().await;
    let mut ids = Vec::new();
    for number in 0..25 {
        ids.push(text(&world.post("/v1/customers", &format!("name=c{number}")).await, "id"));
    }
    ids.reverse();
    let listed = |page: &serde_json::Value| -> Vec<String> {
        page["data"].as_array().unwrap().iter().map(|one| text(one, "id")).collect()
    };
    let first = world.get("/v1/customers", "").await;
    assert_eq!((listed(&first), &first["has_more"]), (ids[..10].to_vec(), &true.into()));
    let second = world.get("/v1/customers", &format!("limit=15&starting_after={}", ids[9])).await;
    assert_eq!((listed(&second), &second["has_more"]), (ids[10..].to_vec(), &false.into()));
    let back = world.get("/v1/customers", &format!("limit=4&ending_before={}", ids[10])).await;
    assert_eq!((listed(&back), &back["has_more"]), (ids[6..10].to_vec(), &true.into()));
    let start = world.get("/v1/customers", &format!("limit=5&ending_before={}", ids[3])).await;
    assert_eq!((listed(&start), &start["has_more"]), (ids[..3].to_vec(), &false.into()));
    for bad in ["limit=0", "limit=101", "limit=x", "starting_after=cus_none"] {
        assert_eq!(world.send("GET", "/v1/customers", bad, None).await.status, 400, "{bad}");
    }
    let all: Vec<_> =
        ListCustomer::new().limit(7).paginate().stream(&world.client).try_collect().await.unwrap();
    let all: Vec<String> = all.iter().map(|customer| customer.id.to_string()).collect();
    assert_eq!(all, ids);
}

#[tokio::test]
async fn filters_expansions_and_refusals() {
    let world = World::new().await;
    let (subscription, customer) = world.subscription("pm_card_visa", 500).await;
    world.subscription("pm_card_visa", 600).await;
    let found = world
        .get(
            "/v1/invoices",
            &format!("customer={customer}&expand[]=data.customer&expand[]=data.payments"),
        )
        .await;
    assert_eq!(found["data"].as_array().unwrap().len(), 1);
    assert_eq!(found["data"][0]["customer"]["email"], "a@b.test");
    assert_eq!(found["data"][0]["payments"]["data"][0]["status"], "paid");
    let none = world.get("/v1/invoices", "created[gt]=99999999999").await;
    assert!(none["data"].as_array().unwrap().is_empty());
    let kinds =
        world.get("/v1/events", "types[]=invoice.paid&types[]=customer.created&limit=50").await;
    assert_eq!(kinds["data"].as_array().unwrap().len(), 4);
    let id = text(&subscription, "id");
    let deep = world
        .get(
            &format!("/v1/subscriptions/{id}"),
            "expand[]=latest_invoice.confirmation_secret&expand[]=items.data.price.product",
        )
        .await;
    assert_eq!(deep["items"]["data"][0]["price"]["product"]["name"], "Plan");
    assert_eq!(deep["latest_invoice"]["confirmation_secret"]["type"], "payment_intent");
    let bad =
        world.send("GET", &format!("/v1/subscriptions/{id}"), "expand[]=nonsense", None).await;
    assert_eq!(bad.status, 400);
    ListPrice::new().active(true).send(&world.client).await.unwrap();
    let endpoint = CreateWebhookEndpoint::new(
        vec![CreateWebhookEndpointEnabledEvents::InvoicePaid],
        "http://127.0.0.1:9/",
    )
    .send(&world.client)
    .await
    .unwrap();
    assert!(endpoint.secret.unwrap().starts_with("whsec_"));
    let listed = ListWebhookEndpoint::new().send(&world.client).await.unwrap();
    assert!(listed.data.iter().all(|endpoint| endpoint.secret.is_none()), "a secret is shown once");
}
