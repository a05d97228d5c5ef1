import Glibc
import LinuxSystem
import Synchronization
import Testing

@testable import Varlink

/// A directory of the test's own, removed with everything in it.
final class TemporaryDirectory: Sendable {
    let path: String

    init() {
        var template = Array("/tmp/tdxd-wire-XXXXXX".utf8CString)
        path = template.withUnsafeMutableBufferPointer { String(cString: mkdtemp($0.baseAddress!)) }
    }

    deinit {
        guard let directory = opendir(path) else { return }
        while let entry = readdir(directory) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name != ".", name != ".." { unlink(path + "/" + name) }
        }
        closedir(directory)
        rmdir(path)
    }
}

let echoInterface = """
    # A service for tests.
    interface io.example.Echo

    type Pair (left: string, right: ?int)

    method Echo(text: string) -> (text: string)
    method Count(to: int) -> (number: int)
    method Hold() -> ()
    method Abandon() -> ()
    method Unwritten() -> ()
    method Who() -> (uid: int, pid: int, has_pidfd: bool)
    method ReadFile() -> (text: string)
    method OpenFiles(texts: []string) -> (count: int)
    method Fail() -> ()

    error Broken (pair: Pair)
    """

struct Echo: Codable, Equatable {
    var text: String
}
struct Count: Codable {
    var to: Int
}
struct Number: Codable {
    var number: Int
}
struct Pair: Codable, Equatable {
    var left: String
    var right: Int?
}

/// A server with `io.example.Echo` on a loop of its own.
final class ServerFixture: Sendable {
    let directory = TemporaryDirectory()
    let loop: EventLoop
    let server: VarlinkServer
    let path: String
    /// Calls to Hold, in the order of their arrival; the test answers them.
    let held = Written<[VarlinkCall]>([])
    let echoed = Written<[String]>([])
    let closed = Written<[CloseReason]>([])
    private let thread: SystemThread

    /// What the loop's thread writes down. It has this and never the fixture: now and then it would be the last to let
    /// go of that, and would have to join itself.
    final class Written<Value: Sendable>: Sendable {
        private let value: Mutex<Value>

        init(_ value: Value) { self.value = Mutex(value) }

        func withLock<Result: Sendable>(_ body: (inout Value) -> Result) -> Result { value.withLock { body(&$0) } }
    }

    init(
        limits: VarlinkLimits = VarlinkLimits(), share: (@Sendable (PeerCredentials) -> ClientShare?)? = nil
    ) throws {
        loop = try EventLoop()
        path = directory.path + "/socket"
        server = VarlinkServer(
            loop: loop, identity: ServiceIdentity(vendor: "Example", product: "Echo", version: "1", url: "about:blank"),
            limits: limits, share: share)
        let loop = loop
        try server.register(echoInterface, handlers: Self.handlers(held, echoed))
        try server.listen(on: try UnixSocket.listen(at: path))
        // Before the loop runs: the first client may be turned away in its first round.
        server.onClose = { [closed] _, reason in closed.withLock { $0.append(reason) } }
        thread = try SystemThread(name: "server") { loop.run() }
    }

    deinit {
        loop.stop()
        thread.join()
        server.close()
        // Calls know their server, and the server's handlers know them.
        held.withLock { $0 = [] }
    }

    func client(limits: VarlinkLimits = VarlinkLimits()) throws -> VarlinkClient {
        try VarlinkClient.connect(path, limits: limits)
    }

    func rawSocket() throws -> RawClient { RawClient(try UnixSocket.connect(to: path)) }

    private static func handlers(
        _ held: Written<[VarlinkCall]>, _ echoed: Written<[String]>
    ) -> [String: VarlinkServer.Handler] {
        [
            "Echo": { call in
                do throws(VarlinkErrorReply) {
                    let parameters = try call.parameters(as: Echo.self)
                    echoed.withLock { $0.append(parameters.text) }
                    call.reply(parameters)
                } catch {
                    call.fail(error)
                }
            },
            "Count": { call in
                let limit = (try? call.parameters(as: Count.self).to) ?? 0
                for number in 1..<max(limit, 1) { call.replyContinues(Number(number: number)) }
                call.reply(Number(number: limit))
            },
            "Hold": { call in held.withLock { $0.append(call) } },
            "Abandon": { _ in },
            "Who": { call in
                struct Who: Encodable {
                    var uid: UInt32
                    var pid: Int32
                    var has_pidfd: Bool
                }
                call.reply(Who(uid: call.peer.uid, pid: call.peer.pid, has_pidfd: call.peer.pidfd != nil))
            },
            "ReadFile": { call in
                var text = ""
                while let descriptor = call.receivedDescriptors.takeFirst() { text += readAll(descriptor) }
                call.reply(Echo(text: text))
            },
            "OpenFiles": { call in
                struct Texts: Decodable {
                    var texts: [String]
                }
                let texts = (try? call.parameters(as: Texts.self).texts) ?? []
                let files = texts.map { RetainedDescriptor(temporaryFile($0)) }
                call.reply(["count": files.count], descriptors: files)
            },
            "Fail": { call in
                call.fail(VarlinkErrorReply("io.example.Echo.Broken", ["pair": Pair(left: "a", right: 7)]))
            },
        ]
    }
}

/// A client below the protocol: bytes in, bytes out.
final class RawClient: Sendable {
    let socket: RetainedDescriptor

    init(_ socket: consuming OwnedDescriptor) { self.socket = RetainedDescriptor(socket) }

    /// Sends what fits at once; gives how much that was.
    @discardableResult
    func send(_ text: String, descriptors: [Int32] = []) -> Int {
        let bytes = Array(text.utf8)
        guard
            case .bytes(let count)? = try? UnixSocket.send(
                bytes[...], descriptors: descriptors, on: socket.descriptor)
        else { return 0 }
        return count
    }

    /// Sends all of it, however long the other side takes.
    func sendAll(_ text: String) {
        var rest = Array(text.utf8)[...]
        while !rest.isEmpty {
            switch try? UnixSocket.send(rest, on: socket.descriptor) {
            case .bytes(let count): rest = rest.dropFirst(count)
            case .wouldBlock: usleep(500)
            case nil: return
            }
        }
    }

    /// Reads a message whose length alone matters, in large pieces; nothing may follow it. Gives its bytes.
    func readLongMessage() -> Int {
        var count = 0
        while true {
            var descriptor = pollfd(fd: socket.rawValue, events: Int16(POLLIN), revents: 0)
            poll(&descriptor, 1, -1)
            switch try? UnixSocket.receive(upTo: 1 << 20, from: socket.descriptor) {
            case .bytes(let bytes, _):
                count += bytes.count
                if bytes.last == 0 { return count }
            case .wouldBlock: continue
            case .endOfStream, nil: return count
            }
        }
    }

    /// Reads up to the next NUL or the end of the stream.
    func readMessage() -> String? {
        var text: [UInt8] = []
        while true {
            var descriptor = pollfd(fd: socket.rawValue, events: Int16(POLLIN), revents: 0)
            poll(&descriptor, 1, -1)
            switch try? UnixSocket.receive(upTo: 1, from: socket.descriptor) {
            case .bytes(let bytes, _):
                if bytes[0] == 0 { return String(decoding: text, as: UTF8.self) }
                text += bytes
            case .wouldBlock: continue
            case .endOfStream, nil: return nil
            }
        }
    }
}

func temporaryFile(_ text: String) -> OwnedDescriptor {
    let file = tmpfile()!
    let copy = dup(fileno(file))
    fclose(file)
    _ = text.withCString { write(copy, $0, strlen($0)) }
    lseek(copy, 0, SEEK_SET)
    return OwnedDescriptor(taking: copy)
}

func readAll(_ descriptor: borrowing OwnedDescriptor) -> String {
    var buffer = [UInt8](repeating: 0, count: 4096)
    let count = read(descriptor.rawValue, &buffer, buffer.count)
    return String(decoding: buffer.prefix(max(count, 0)), as: UTF8.self)
}

/// Waits until `condition` holds; there is no time limit but the test's own.
func eventually(_ condition: () -> Bool) {
    while !condition() { usleep(1000) }
}

extension ServerFixture {
    /// Serves one more interface, without handlers, from the next event on.
    func register(_ description: String) {
        let server = server
        let flag = Flag()
        loop.perform {
            do { try server.register(description, handlers: [:]) } catch { Issue.record(error) }
            flag.set()
        }
        eventually { flag.isSet }
    }
}

/// Set once, read from anywhere.
final class Flag: Sendable {
    private let value = Atomic(false)
    func set() { value.store(true, ordering: .releasing) }
    var isSet: Bool { value.load(ordering: .acquiring) }
}
