internal import Glibc
internal import HolderLaunch
internal import LinuxSystem
internal import SystemPackage

/// Where the daemon keeps what.
struct Places: Hashable, Sendable {
    /// Where clients connect.
    let socket: String
    /// Holders' directories and the lock; gone with a reboot.
    let runtimeDirectory: String
    /// Certificates; kept for good.
    let stateDirectory: String

    /// One directory for each TD, named by its id.
    var holders: String { LaunchPlaces.holders(in: runtimeDirectory) }
    var certificates: String { stateDirectory + "/certificates" }
    var lock: String { runtimeDirectory + "/tdxd.lock" }

    func holder(_ id: String) -> String { holders + "/" + id }

    static func socket(inHolder directory: String) -> String { directory + "/socket" }
    static let record = "domain.json"

    /// What a holder's socket adds to the runtime directory: "/holders/", 32 digits, "/socket" and room for the name
    /// that it is bound under first.
    static let longestSocketSuffix = 9 + 32 + 7 + 12

    /// Why the places cannot be used, such as a path that is too long for a Unix socket; nil when they can.
    var flaw: String? {
        for (name, path) in [
            ("socket", socket), ("runtime directory", runtimeDirectory), ("state directory", stateDirectory),
        ] where !path.hasPrefix("/") {
            return "the \(name) “\(path)” is not an absolute path"
        }
        let limit = UnixSocket.maximumPathLength - Self.longestSocketSuffix
        guard runtimeDirectory.utf8.count <= limit else {
            return
                "the runtime directory “\(runtimeDirectory)” has \(runtimeDirectory.utf8.count) bytes; at most \(limit) "
                + "leave room for the path of a holder's socket"
        }
        return nil
    }

    /// Makes the directories, closed to other users where tdxd's own files are.
    func make() throws(LinuxError) {
        try DirectoryTree.make(runtimeDirectory, mode: 0o755)
        try DirectoryTree.make(holders, mode: 0o700)
        try DirectoryTree.make(stateDirectory, mode: 0o755)
        try DirectoryTree.make(certificates, mode: 0o750)
    }
}

/// The lock on a runtime directory: one tdxd at a time. Held until the process ends.
struct RuntimeLock: ~Copyable {
    private let file: OwnedDescriptor

    enum Refused: Error, Hashable, Sendable, CustomStringConvertible {
        case held(path: String, by: String)
        case failed(LinuxError)

        var description: String {
            switch self {
            case .held(let path, let owner): "another tdxd\(owner) already uses this runtime directory (\(path))"
            case .failed(let failure): "\(failure)"
            }
        }
    }

    init(path: String) throws(Refused) {
        file = try Self.take(path)
        let text = "\(getpid())\n"
        ftruncate(file.rawValue, 0)
        _ = text.withCString { pwrite(file.rawValue, $0, strlen($0), 0) }
    }

    private static func take(_ path: String) throws(Refused) -> OwnedDescriptor {
        let number = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0o600)
        guard number >= 0 else { throw .failed(LinuxError("open", Errno(rawValue: errno), detail: path)) }
        let file = OwnedDescriptor(taking: number)
        // A child that a killed tdxd was about to start has its descriptors for a moment longer, until it becomes another
        // program: that is not another tdxd.
        let deadline = MonotonicInstant.now + patience
        while flock(number, LOCK_EX | LOCK_NB) != 0 {
            guard errno == EWOULDBLOCK else { throw .failed(LinuxError("flock", Errno(rawValue: errno), detail: path)) }
            guard MonotonicInstant.now < deadline else { throw held(path) }
            usleep(10_000)
        }
        return file
    }

    /// How long what another process has may take to become free.
    static let patience = Duration.seconds(1)

    private static func held(_ path: String) -> Refused {
        let bytes = (try? DurableFile.read(path: path, limit: 64)) ?? []
        let pid = Int32(String(decoding: bytes, as: UTF8.self).prefix { $0.isNumber })
        return .held(path: path, by: pid.map { " (pid \($0))" } ?? "")
    }
}
