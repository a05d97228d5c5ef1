import ControlInterface
import Glibc
import LinuxSystem
import Synchronization
import Varlink

@testable import TDXControl

/// Serves `io.tdxd.Manager` with answers that the test chooses, so that tdxctl can be driven over a real socket.
final class ManagerStandIn: Sendable {
    let path: String
    private let directory: String
    private let loop: EventLoop
    private let server: VarlinkServer
    private let thread: SystemThread

    init(_ handlers: [String: VarlinkServer.Handler]) throws {
        var template = Array("/tmp/tdxd-ctl-XXXXXX".utf8CString)
        directory = template.withUnsafeMutableBufferPointer { String(cString: mkdtemp($0.baseAddress!)) }
        path = directory + "/socket"
        loop = try EventLoop()
        server = VarlinkServer(
            loop: loop, identity: ServiceIdentity(vendor: "tdxd", product: "stand-in", version: "9.9", url: ""))
        try server.register(InterfaceDescription.manager, handlers: handlers)
        try server.listen(on: try UnixSocket.listen(at: path))
        let loop = loop
        thread = try SystemThread(name: "stand-in") { loop.run() }
    }

    deinit {
        loop.stop()
        thread.join()
        server.close()
        unlink(path)
        rmdir(directory)
    }
}

/// What a run of tdxctl left behind.
struct Outcome: Hashable {
    var status: Int32
    var output: String
    var error: String
}

/// Runs one command line in this process.
func tdxctl(
    _ arguments: String..., environment: [String: String] = [:], errorIsTerminal: Bool = false
) -> Outcome {
    tdxctl(arguments, environment: environment, errorIsTerminal: errorIsTerminal)
}

func tdxctl(
    _ arguments: [String], environment: [String: String] = [:], errorIsTerminal: Bool = false, losesOutput: Bool = false
) -> Outcome {
    let output = Captured()
    let error = Captured()
    let status = ControlTool.run(
        arguments, environment: environment,
        console: Console(
            outputIsTerminal: false, errorIsTerminal: errorIsTerminal, width: 80,
            style: .plain, write: { output.add($0) }, writeError: { error.add($0) },
            lostOutput: { losesOutput }))
    return Outcome(status: status, output: output.text, error: error.text)
}

private final class Captured: Sendable {
    private let storage = Mutex("")
    func add(_ text: String) { storage.withLock { $0 += text } }
    var text: String { storage.withLock { $0 } }
}
