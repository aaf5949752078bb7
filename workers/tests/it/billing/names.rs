//! Containers that are paid for, and whose names others have.

use super::Scene;
use billing::{inbox, reconcile};
use entities::catalogue::Billing as Interval;
use entities::orders::{self, Status};
use entities::servers;
use entities::tenancy::Permission;
use serde_json::json;

#[tokio::test]
async fn a_container_whose_name_is_taken_is_paid_back_and_holds_up_no_other_tenant() {
    let scene = Scene::open().await;
    let node = scene.db.node(&scene.platform, 1, 10).await.unwrap();
    let tx = scene.db.db.write(&scene.platform, Permission::ServersWrite).await.unwrap();
    servers::grant_server(&scene.db.db, &tx, node, scene.platform.tenant()).await.unwrap();
    tx.commit().await.unwrap();
    let pod = serde_json::from_value(json!({"kind": "cloudpod_plan", "cpu_cores": 1,
        "memory_mib": 512, "disk_mib": 4096, "template": "debian-12"}));
    let product = scene.sell_as("Pod", pod.unwrap()).await;
    let price = scene.price(product, 700, (Interval::Month, None, None)).await;
    let poisoned = scene.order_named(&scene.ctx, price, "web.example").await;
    let row = scene.checkout(poisoned).await;
    scene.press(&row, "pay", "pm_card_visa").await;
    reconcile::events(scene.billing()).await.unwrap();
    while inbox::handle_due(scene.billing()).await.unwrap() > 0 {}
    assert_eq!(scene.status(poisoned).await, Status::Paid);
    let tenant = scene.ctx.tenant();
    let taken = format!(
        "INSERT INTO cloudpod (id, tenant_id, hostname, specification, ssh_keys, desired, status)
            VALUES (gen_random_uuid(), '{tenant}', 'web.example', '{{}}', '[]', 'active', 'active')"
    );
    scene.db.execute(&taken).await.unwrap();
    let neighbour = scene.db.tenant(&scene.platform, "neighbour").await.unwrap();
    let other = scene.order_of(&neighbour, scene.plan, 1).await;
    let tx = scene.db.db.system().await.unwrap();
    orders::advance(&tx, &scene.platform, other, Status::Paid, "A test pays.").await.unwrap();
    tx.commit().await.unwrap();
    scene.settle().await;
    assert_eq!(scene.services(other).await.len(), 1);
    let failed = scene.services(poisoned).await.remove(0);
    assert!(failed.error.unwrap().contains("web.example"));
    assert_eq!(scene.status(poisoned).await, Status::Refunded);
    assert_eq!(scene.repayments(poisoned).await[0].amount, 700);
    scene.close().await;
}
