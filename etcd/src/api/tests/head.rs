//! Responses to HEAD.

use super::*;

#[tokio::test]
async fn head_is_answered_as_get_without_a_body() {
    let server = Server::start().await;
    server.put("/a", "1");
    for target in [
        "/health",
        "/livez",
        "/readyz",
        "/metrics",
        "/v2/machines",
        "/v2/keys/a",
        "/v2/keys/none",
        "/v2/auth/enable",
        "/v2/auth/users",
        "/v2/auth/roles/none",
        "/v2/admin/config",
        "/v2/admin/machines",
        "/v2/admin/none",
        "/mod/v2/lock/l",
        "/mod/v2/leader/l",
        "/mod/dashboard/",
        "/v1/keys/a",
        "/v1/leader",
        "/v1/machines",
        "/leader",
        "/none",
        "/config/local/log",
    ] {
        let mut client = server.connect().await;
        let mut heads = Vec::new();
        for method in ["GET", "HEAD"] {
            client.send(&format!("{method} {target} HTTP/1.1\r\nHost: x\r\nTE: trailers\r\n\r\n")).await;
            let (head, _) = if method == "GET" {
                client.answer().await
            } else {
                (client.until("\r\n\r\n").await, String::new())
            };
            // These count requests and bytes, so they differ.
            let lines = head.lines().filter(|line| !line.starts_with("Date: ") && target != "/metrics");
            heads.push((status(&head).to_owned(), lines.map(str::to_owned).collect::<Vec<_>>()));
        }
        assert_eq!(heads[0], heads[1], "{target}");
        assert!(
            target == "/metrics" || heads[1].1.iter().any(|line| line.starts_with("Content-Length: ")),
            "{target}"
        );
        // No byte of a body arrived: the next response starts at the right place.
        client.send(GET_A).await;
        assert_eq!(status(&client.answer().await.0), "HTTP/1.1 200 OK", "{target}");
    }
}
