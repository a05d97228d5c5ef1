import ControlInterface
import Glibc
import LinuxSystem
import Testing

/// What a Prometheus server gets, read by the parser of Prometheus' own Python client.
@Suite(.serialized) struct MetricsTests {
    static let script = """
        import sys
        from prometheus_client.openmetrics.parser import text_string_to_metric_families
        text = open(sys.argv[1]).read()
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                labels = ",".join(f"{k}={v}" for k, v in sorted(sample.labels.items()))
                print(f"{sample.name}{{{labels}}} {sample.value:g}")
        """

    private func samples(_ host: PrivateHost, _ path: String) throws -> [String] {
        let result = try runProgram(PythonTests.python!, ["-c", Self.script, path], in: host.directory)
        #expect(result.status == 0, "\(result)")
        return result.output.split(separator: "\n").map { String($0) }
    }

    @Test(.enabled(if: PythonTests.python != nil, "no PyPI package: run scripts/python-varlink-venv"))
    func `Prometheus' own parser reads every metric`() throws {
        let host = try PrivateHost(settings: "emulated_key_ids = 4")
        _ = try host.create("web1")
        _ = try host.create("web2")
        _ = try host.convert("web1", gpa: 0, bytes: 1 << 20, to: .shared)
        _ = try host.stop("web2")
        let path = host.directory + "/tdxd.prom"
        #expect(try host.tdxctl("metrics", "--textfile", path).status == 0)
        let samples = try samples(host, path)
        for expected in [
            "tdxd_info{backend=memfd,emulated=true,version=\(ControlInterfaceVersion.text)} 1",
            "tdxd_trust_domains{state=runnable} 1", "tdxd_trust_domains{state=failed} 0",
            "tdxd_trust_domain_memory_bytes{state=runnable,td=web1} 6.71089e+07",
            "tdxd_trust_domain_shared_bytes{state=runnable,td=web1} 1.04858e+06",
            "tdxd_key_ids_capacity{} 4", "tdxd_key_ids{use=in_use} 1", "tdxd_key_ids{use=free} 3",
            "tdxd_certificates{verdict=complete} 1", "tdxd_certificates{verdict=incomplete} 0",
            "tdxd_draining{purpose=kexec} 0", "tdxd_drain_ready{} 0",
        ] {
            #expect(samples.contains(expected), "\(expected) is not in \(samples)")
        }
        // What was asked for at the terminal is the same.
        let shown = try host.tdxctl("metrics")
        #expect(shown.output.hasSuffix("# EOF\n"))
    }

    /// What `tdxctl metrics --http` answers to a request.
    private func answer(_ host: PrivateHost, _ request: String) throws -> String {
        let result = try runProgram(
            "/bin/sh", ["-c", "printf '%b' \"$REQUEST\" | \"$TDXCTL\" metrics --http"],
            environment: ["TDXD_SOCKET": host.socket, "REQUEST": request, "TDXCTL": Programs.tdxctl],
            in: host.directory)
        return result.output
    }

    @Test func `one request gets one answer`() throws {
        let host = try PrivateHost()
        let answer = try answer(host, "GET /metrics?x=1 HTTP/1.1\\r\\nHost: h\\r\\n\\r\\n")
        #expect(answer.hasPrefix("HTTP/1.0 200 OK\r\nContent-Type: application/openmetrics-text; version=1.0.0"))
        let parts = answer.split(separator: "\r\n\r\n", maxSplits: 1)
        #expect(parts.count == 2 && parts[1].hasSuffix("# EOF\n"))
        #expect(answer.contains("Content-Length: \(parts[1].utf8.count)\r\n"))
        for (request, status) in [
            ("GET /else HTTP/1.1\\r\\n\\r\\n", "404"), ("POST /metrics HTTP/1.1\\r\\n\\r\\n", "405"),
            ("nonsense\\r\\n\\r\\n", "400"), ("GET /metrics HTTP/1.1\\r\\n", "400"), ("", "400"),
        ] {
            #expect(try self.answer(host, request).hasPrefix("HTTP/1.0 \(status) "), "\(request)")
        }
        host.kill(.kill)
        #expect(try self.answer(host, "GET /metrics HTTP/1.1\\r\\n\\r\\n").hasPrefix("HTTP/1.0 503 "))
    }

    @Test func `a text file is replaced whole, and refused where the collector would not read it`() throws {
        let host = try PrivateHost()
        #expect(try host.tdxctl("metrics", "--textfile", host.directory + "/tdxd.txt").status == 2)
        #expect(try host.tdxctl("metrics", "--textfile", "/nonexistent/tdxd.prom").status == 1)
        let path = host.directory + "/tdxd.prom"
        for _ in 0..<2 { #expect(try host.tdxctl("metrics", "--textfile", path).status == 0) }
        #expect(try TextFile.read(path).hasSuffix("# EOF\n"))
        #expect(try TextFile.list(host.directory).filter { $0.hasPrefix("tdxd.prom") } == ["tdxd.prom"])
    }
}
