internal import ArgumentParser
internal import CLinux
internal import ControlInterface
internal import LinuxSystem
internal import SystemPackage
internal import Varlink

struct MetricsCommand: ControlCommand {
    static let configuration = CommandConfiguration(
        commandName: "metrics", abstract: "Shows what tdxd knows as OpenMetrics text, for Prometheus.",
        discussion: """
            For node-exporter's textfile collector: --textfile writes a file that is there whole or not at all. As the \
            service behind a socket of systemd: --http answers one request on standard input and output.
            """)

    @Option(
        help: ArgumentHelp("Write it to this file, whose name ends in .prom.", valueName: "path"), completion: .file(),
        transform: parsePath)
    var textfile: String?

    @Flag(help: ArgumentHelp("Answer one request of HTTP.", visibility: .hidden))
    var http = false

    @OptionGroup var options: GlobalOptions
    @ParentCommand var root: Tdxctl

    func validate() throws {
        guard textfile == nil || !http else { throw ValidationError("one of --textfile and --http") }
        guard textfile?.hasSuffix(".prom") ?? true else {
            throw ValidationError("the collector reads files whose names end in .prom")
        }
    }

    func execute(_ context: Context) throws(Failure) -> ExitStatus {
        if http { return try answer(context) }
        let text = try read(context).text
        guard let textfile else {
            context.console.write(text)
            return .ok
        }
        do throws(LinuxError) {
            let path = FilePath(textfile)
            // Others read it, whatever this user's umask is.
            try DurableFile.write(
                Array(text.utf8), name: path.lastComponent?.string ?? "",
                in: path.removingLastComponent().string, mode: 0o644, isExact: true)
        } catch {
            throw Failure(status: .failed, code: "system", message: "\(error)", hint: nil)
        }
        return .ok
    }

    private func read(_ context: Context) throws(Failure) -> Metrics {
        try context.withManager { client throws(VarlinkClientError) in
            Metrics(
                domains: try client.call(ManagerInterface.List.method, as: ManagerInterface.List.Reply.self).domains
                    .sorted { $0.name < $1.name },
                keys: try client.call(
                    ManagerInterface.GetKeys.method, as: ManagerInterface.GetKeys.Reply.self, timeout: .seconds(60)),
                certificates: try client.call(
                    ManagerInterface.ListCertificates.method, as: ManagerInterface.ListCertificates.Reply.self
                ).certificates,
                drain: try client.call(ManagerInterface.GetDrain.method, as: StatusReply.self).status)
        }
    }

    /// One request of HTTP, of which only the first line counts.
    private func answer(_ context: Context) throws(Failure) -> ExitStatus {
        let request = HTTPRequest.read(from: 0, limit: 16 << 10, patience: .seconds(5))
        func reply(_ status: String, _ type: String, _ body: String) {
            context.console.write(
                "HTTP/1.0 \(status)\r\nContent-Type: \(type)\r\nContent-Length: \(body.utf8.count)\r\n"
                    + "Connection: close\r\n\r\n" + (request?.method == "HEAD" ? "" : body))
        }
        let plain = "text/plain; charset=utf-8"
        guard let request else {
            reply("400 Bad Request", plain, "no request\n")
            return .failed
        }
        guard request.method == "GET" || request.method == "HEAD" else {
            reply("405 Method Not Allowed", plain, "only GET\n")
            return .ok
        }
        guard request.path == "/metrics" || request.path == "/" else {
            reply("404 Not Found", plain, "see /metrics\n")
            return .ok
        }
        do throws(Failure) {
            reply(
                "200 OK", "application/openmetrics-text; version=1.0.0; charset=utf-8", try read(context).text)
            return .ok
        } catch {
            reply("503 Service Unavailable", plain, error.message + "\n")
            throw error
        }
    }
}

/// The first line of a request.
struct HTTPRequest: Hashable {
    var method: String
    /// Without the query.
    var path: String

    init?(_ head: some StringProtocol) {
        let line = head.prefix { !$0.isNewline }
        let words = line.split(separator: " ", omittingEmptySubsequences: false)
        guard words.count == 3, words[2].hasPrefix("HTTP/1."), words[1].hasPrefix("/") else { return nil }
        method = String(words[0])
        path = String(words[1].prefix { $0 != "?" })
    }

    /// Reads to the end of the head. Nil for what is not a request, longer than `limit`, or not there in time.
    static func read(from descriptor: Int32, limit: Int, patience: Duration) -> Self? {
        var bytes: [UInt8] = []
        let deadline = MonotonicInstant.now + patience
        var chunk = [UInt8](repeating: 0, count: 4096)
        let end = Array("\r\n\r\n".utf8)
        while bytes.count <= limit {
            guard tdxd_poll_readable(descriptor, deadline.pollTimeout(from: .now)) > 0 else { return nil }
            let count = chunk.withUnsafeMutableBytes { tdxd_read(descriptor, $0.baseAddress, $0.count) }
            if count == -Int(Errno.interrupted.rawValue) { continue }
            guard count > 0 else { return nil }
            bytes += chunk[..<Int(count)]
            // Only the last bytes may have completed it.
            let tail = bytes.suffix(Int(count) + 3)
            let isComplete = tail.indices.contains { tail[$0...].starts(with: end) }
            if isComplete { return Self(String(decoding: bytes, as: UTF8.self)) }
        }
        return nil
    }
}
