//! The limit on the depth of new keys, on every page that creates keys.

use super::*;

#[tokio::test]
async fn keys_beyond_the_limit_of_levels_are_refused_and_old_ones_served() {
    let limits = Limits { key_levels_max: 20, ..Limits::default() };
    let server = Server::start_with(limits, |_| {}, Acceptor::plain()).await;
    let old = "/o".repeat(30);
    server.put(&old, "old");
    let index = || server.context.backend.store().index();
    let before = index();
    let at = |levels: usize| "/d".repeat(levels);
    let form = "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 7\r\n\r\nvalue=1";
    for (request, cause) in [
        (format!("PUT /v2/keys{}", at(21)), "21 levels"),
        (format!("PUT /v2/keys{}?prevExist=false", at(21)), "21 levels"),
        (format!("PUT /v2/keys{}?dir=true", at(1000)), "1000 levels"),
        (format!("POST /v2/keys{}", at(20)), "21 levels"),
        (format!("PUT /v2/keys{}", "/%64".repeat(21)), "21 levels"),
        (format!("PUT /v2/keys/x%2f{}", "d%2f".repeat(20)), "21 levels"),
        (format!("PUT /v1/keys{}", at(21)), "21 levels"),
        (format!("POST /v1/keys{}", at(21)), "21 levels"),
        (format!("PUT /mod/dashboard/api/keys{}", at(21)), "21 levels"),
        (format!("POST /mod/v2/lock{}?ttl=9", at(17)), "21 levels"),
        (format!("PUT /mod/v2/leader{}?ttl=9&name=n", at(17)), "21 levels"),
    ] {
        let mut client = server.connect().await;
        client.send(&format!("{request} HTTP/1.1\r\nHost: x\r\n{form}")).await;
        let (head, body) = client.answer().await;
        assert_eq!(status(&head), "HTTP/1.1 400 Bad Request", "{request}: {body}");
        assert!(
            body.contains(cause) && body.contains("at most 20 are taken (-max-key-depth)"),
            "{request}: {body}"
        );
        if !request.contains("/v1/") {
            assert!(
                body.starts_with("{\"errorCode\":209,\"message\":\"Invalid field\","),
                "{request}: {body}"
            );
        }
    }
    assert_eq!(index(), before);
    for (request, wanted) in [
        (format!("PUT /v2/keys{}", at(20)), "201 Created"),
        (format!("POST /v2/keys{}", "/q".repeat(19)), "201 Created"),
        (format!("POST /mod/v2/lock{}?ttl=9", "/l".repeat(16)), "200 OK"),
        (format!("GET /v2/keys{old}"), "200 OK"),
        (format!("PUT /v2/keys{old}?prevExist=true"), "200 OK"),
        (format!("PUT /v2/keys{old}?prevValue=1"), "200 OK"),
        (format!("DELETE /v2/keys{old}"), "200 OK"),
    ] {
        let mut client = server.connect().await;
        client.send(&format!("{request} HTTP/1.1\r\nHost: x\r\n{form}")).await;
        let (head, body) = client.answer().await;
        assert_eq!(status(&head), format!("HTTP/1.1 {wanted}"), "{request}: {body}");
    }
}
