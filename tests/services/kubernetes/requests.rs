//! The chart's servers of moderation over HTTP.

use serde_json::Value;

use super::{checked, manifests};

/// Servers of requests are reached, scaled, kept and watched, and neither the secret nor the keys are in their environment.
#[test]
fn servers_of_requests_are_reached_scaled_and_watched() {
    let all = manifests(true);
    let pod = &all["Deployment moderation-aegis-serve"]["spec"]["template"];
    let labels = pod["metadata"]["labels"].as_object().unwrap();
    let selects = |selector: &Value| {
        selector.as_object().unwrap().iter().all(|(label, value)| labels.get(label) == Some(value))
    };
    let container = &pod["spec"]["containers"][0];
    let port = |name: &str| {
        let ports = container["ports"].as_array().unwrap();
        ports.iter().find(|port| port["name"] == name).unwrap()["containerPort"].as_i64().unwrap()
    };
    assert_eq!((port("moderation"), port("metrics")), (9466, 9464));
    let service = &all["Service moderation-aegis-serve"]["spec"];
    assert!(selects(&service["selector"]));
    assert_eq!(service["type"], "LoadBalancer");
    let ports = service["ports"].as_array().unwrap();
    assert_eq!(ports.len(), 1, "metrics are not served to clients");
    assert_eq!((&ports[0]["port"], &ports[0]["targetPort"]), (&80.into(), &"moderation".into()));
    let watched = &all["Service moderation-aegis-serve-metrics"];
    assert!(selects(&watched["spec"]["selector"]));
    assert_eq!(watched["spec"]["ports"][0]["name"], "metrics");
    let scaler = &all["HorizontalPodAutoscaler moderation-aegis-serve"]["spec"];
    assert_eq!(scaler["scaleTargetRef"]["name"], "moderation-aegis-serve");
    assert_eq!((&scaler["minReplicas"], &scaler["maxReplicas"]), (&3.into(), &9.into()));
    assert_eq!(scaler["metrics"][0]["resource"]["target"]["averageUtilization"], 50);
    let budget = &all["PodDisruptionBudget moderation-aegis-serve"]["spec"];
    assert!(selects(&budget["selector"]["matchLabels"]) && budget["maxUnavailable"] == 1);
    let rules = all["NetworkPolicy moderation-aegis"]["spec"]["ingress"].as_array().unwrap();
    let rule = rules.iter().find(|rule| rule["ports"][0]["port"] == 9466).unwrap();
    let from = &rule["from"][0]["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"];
    assert_eq!(from, "gateways");
    // Files of Secrets, of which each pod has only the keys that it needs.
    for (name, keys) in [("serve", &["record-key", "api-keys"][..]), ("score", &["record-key"])] {
        let spec = &all[&format!("Deployment moderation-aegis-{name}")]["spec"]["template"]["spec"];
        let volumes = spec["volumes"].as_array().unwrap().iter();
        let items = volumes.filter(|volume| volume["secret"]["secretName"] == "aegis-serve");
        let found: Vec<_> =
            items.map(|volume| volume["secret"]["items"][0]["key"].as_str().unwrap()).collect();
        assert_eq!(found, keys, "{name}");
    }
    // Without records no secret is needed.
    let config = "config=[http.moderation]\nrecord = false";
    let values = "serve.enabled=true,serve.keysSecret.name=s,serve.keysSecret.key=k";
    let unrecorded = checked(false, &["--set", values, "--set-string", config]);
    assert_eq!(unrecorded["Deployment moderation-aegis-serve"]["spec"]["replicas"], 2);
    assert!(!unrecorded.contains_key("HorizontalPodAutoscaler moderation-aegis-serve"));
}
