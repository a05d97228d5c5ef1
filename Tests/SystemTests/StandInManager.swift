import Glibc
import LinuxSystem
import Synchronization
import SystemPackage

/// What systemd does for a service that notifies it, done by the test: hears messages and keeps descriptors.
final class StandInManager: Sendable {
    let path: String
    private let socket: RetainedDescriptor
    private let isOver = Atomic<Bool>(false)
    private let state = Mutex(State())
    private let thread = Mutex<SystemThread?>(nil)

    private struct State {
        var messages: [String] = []
        var stored: [(name: String, descriptor: RetainedDescriptor)] = []
    }

    init(path: String) throws {
        self.path = path
        let number = Glibc.socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue), 0)
        guard number >= 0 else { throw LinuxError("socket", Errno(rawValue: errno)) }
        socket = RetainedDescriptor(OwnedDescriptor(taking: number))
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
        let result = withUnsafePointer(to: address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(number, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        guard result == 0 else { throw LinuxError("bind", Errno(rawValue: errno), detail: path) }
        let thread = try SystemThread(name: "manager") { [self] in
            while !isOver.load(ordering: .relaxed) { if !takeOne() { usleep(1000) } }
        }
        self.thread.withLock { $0 = thread }
    }

    /// Ends it; needed, since its thread keeps it.
    func close() {
        isOver.store(true, ordering: .relaxed)
        thread.withLock { $0?.join() }
    }

    /// Every message that has come, in order.
    var messages: [String] { state.withLock { $0.messages } }

    /// What it keeps for the next start.
    var stored: [(name: String, descriptor: RetainedDescriptor)] { state.withLock { $0.stored } }

    /// - Returns: False when nothing has come.
    private func takeOne() -> Bool {
        guard
            case .bytes(let bytes, let descriptors)? = try? UnixSocket.receive(
                upTo: 4096, maximumDescriptors: 16, from: socket.descriptor)
        else { return false }
        let message = String(decoding: bytes, as: UTF8.self)
        let fields = message.split(separator: "\n")
        let name = fields.first { $0.hasPrefix("FDNAME=") }.map { String($0.dropFirst("FDNAME=".count)) } ?? "stored"
        state.withLock { state in
            state.messages.append(message)
            if fields.contains("FDSTOREREMOVE=1") { state.stored.removeAll { $0.name == name } }
            guard fields.contains("FDSTORE=1") else { return }
            while let descriptor = descriptors.takeFirst() {
                let identity = try? descriptor.status().identity
                // The same file twice is kept once.
                guard !state.stored.contains(where: { (try? $0.descriptor.descriptor.status().identity) == identity })
                else { continue }
                state.stored.append((name, RetainedDescriptor(descriptor)))
            }
        }
        // What came with BARRIER=1 is closed here, and whoever waits for it goes on.
        return true
    }
}
