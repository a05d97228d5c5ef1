import Glibc
import LinuxSystem
import Testing

/// The program `service-support-helper`, which is built beside the tests.
enum Helper {
    static func path() throws -> String {
        let own = try TextFile.linkTarget("/proc/self/exe")
        let beside = own.split(separator: "/").dropLast().reduce("") { $0 + "/" + $1 }
        // `swift test` may run the bundle through a runner of the toolchain: then the build folder follows from the
        // working directory.
        let candidates = [beside, ".build/debug", ".build/release"].map { $0 + "/service-support-helper" }
        return try #require(candidates.first { access($0, X_OK) == 0 }, "looked for \(candidates)")
    }

    /// Starts it and waits for its end.
    /// - Parameters:
    ///   - shell: a shell text in which `"$@"` is the helper's command; for what only a shell can prepare.
    static func run(
        _ arguments: [String], environment: [String] = [], descriptors: [(source: Int32, target: Int32)] = [],
        shell: String = "exec \"$@\""
    ) throws -> (exit: ProcessExit, output: [String], errors: [String]) {
        let output = try Pipe()
        let errors = try Pipe()
        let start = ProgramStart(
            path: "/bin/sh", arguments: ["-c", shell, "sh", try path()] + arguments, environment: environment,
            descriptors: [(output.write, 1), (errors.write, 2)] + descriptors)
        let process = try start.start()
        output.closeWriting()
        errors.closeWriting()
        // What the helper prints fits in a pipe, so that one may be read after the other.
        let lines = (try output.readLines(), try errors.readLines())
        return (try process.wait(), lines.0, lines.1)
    }
}

/// An anonymous pipe, close-on-exec.
final class Pipe {
    let read: Int32
    private(set) var write: Int32

    init() throws {
        var ends: [Int32] = [0, 0]
        try #require(pipe(&ends) == 0)
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        (read, write) = (ends[0], ends[1])
    }

    deinit {
        close(read)
        closeWriting()
    }

    func closeWriting() {
        if write >= 0 { close(write) }
        write = -1
    }

    func readLines() throws -> [String] {
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 4096)
        while case let count = Glibc.read(read, &chunk, chunk.count), count > 0 { bytes += chunk[..<count] }
        return String(decoding: bytes, as: UTF8.self).split(separator: "\n").map(String.init)
    }
}

/// A Unix socket bound to a path in a folder of its own.
final class BoundSocket {
    let folder: TemporaryFolder
    let path: String
    let descriptor: Int32

    /// - Parameter type: SOCK_STREAM, which also listens, or SOCK_DGRAM.
    init(_ type: __socket_type) throws {
        folder = try TemporaryFolder()
        path = folder.path + "/s"
        descriptor = socket(AF_UNIX, Int32(type.rawValue), 0)
        try #require(descriptor >= 0)
        _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let text = path
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: text.utf8) }
        let bound = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        try #require(bound == 0)
        if type == SOCK_STREAM { try #require(listen(descriptor, 1) == 0) }
    }

    deinit { close(descriptor) }

    /// The datagrams that wait.
    func datagrams() -> [String] {
        var all: [String] = []
        var buffer = [UInt8](repeating: 0, count: 65536)
        while case let count = recv(descriptor, &buffer, buffer.count, Int32(MSG_DONTWAIT)), count > 0 {
            all.append(String(decoding: buffer[..<count], as: UTF8.self))
        }
        return all
    }
}
