import ControlInterface
import Testing

@testable import TDXControl

@Suite struct MetricsRenderingTests {
    @Test func `labels are escaped by the format's rule`() {
        #expect(Metrics.Sample.escaped("a\\b\"c\nd") == "a\\\\b\\\"c\\nd")
        #expect(Metrics.Sample(1.5, [("td", "x\"y")]).line("m") == "m{td=\"x\\\"y\"} 1.5\n")
    }

    @Test func `a request is its first line`() {
        #expect(
            HTTPRequest("GET /metrics?name=a HTTP/1.1\r\nHost: x\r\n\r\n").map { "\($0.method) \($0.path)" }
                == "GET /metrics")
        for flaw in [
            "", "GET", "GET /metrics", "GET metrics HTTP/1.1", "GET  /metrics HTTP/1.1", "GET /metrics FTP/1.1",
        ] {
            #expect(HTTPRequest(flaw) == nil, "\(flaw)")
        }
    }

    @Test func `what cannot be counted has no sample`() {
        var domain = TrustDomain.sample("web1")
        domain.residentPrivateBytes = nil
        let metrics = Metrics(
            domains: [domain], keys: .init(backend: .memfd, capacity: 2, keys: []), certificates: [],
            drain: DrainStatus(
                backend: .memfd, purpose: nil, since: nil, building: 0, running: 1, ending: 0, privateBytes: 0,
                convertingBytes: 0, keysTaken: 0, blockers: [], ended: []))
        // Types that node-exporter's textfile collector knows.
        let types = metrics.text.split(separator: "\n").filter { $0.hasPrefix("# TYPE ") }.map {
            $0.split(separator: " ")[3]
        }
        #expect(Set(types) == ["gauge"])
        #expect(!metrics.text.contains("resident_private_bytes{"))
        #expect(metrics.text.contains("tdxd_trust_domain_resident_shared_bytes{td=\"web1\",state=\"runnable\"} 0\n"))
        #expect(!metrics.text.contains("\ntdxd_last_teardown_seconds "))
    }
}
