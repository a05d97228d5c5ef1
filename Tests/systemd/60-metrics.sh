# The endpoint answers one scrape after another, behind its socket, as nobody in particular.
systemctl start tdxd-metrics.socket
scrape() { exec 9<>/dev/tcp/127.0.0.1/9713; printf 'GET /metrics HTTP/1.0\r\n\r\n' >&9; cat <&9; exec 9>&-; }
tdxctl create scraped --memory 128M
for round in 1 2 3; do
    scrape >/run/scrape
    grep -q '^HTTP/1.0 200 OK' /run/scrape
    grep -q 'tdxd_trust_domain_memory_bytes{td="scraped",state="runnable"} 134217728' /run/scrape
    [ "$(tail -n 1 /run/scrape)" = '# EOF' ]
done
systemctl stop tdxd-metrics.socket
tdxctl stop scraped
