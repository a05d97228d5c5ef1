internal import Glibc
internal import LinuxSystem
internal import ServiceSupport
internal import SystemPackage

/// What a holder's fence leaves of the file system, tried on files that are made for it.
struct FenceTrials {
    private let directory: String
    /// Stands for the holder's directory.
    var own: String { directory + "/own" }

    /// - Throws: EEXIST where a former trial left its files.
    init(in directory: String) throws(LinuxError) {
        self.directory = directory
        for path in [own, directory + "/other"] {
            guard mkdir(path, 0o700) == 0 else { throw LinuxError("mkdir", Errno(rawValue: errno), detail: path) }
        }
        for path in [own + "/file", own + "/first", own + "/second", directory + "/other/file"] {
            _ = try OwnedDescriptor.create(path: path)
        }
    }

    /// - Parameter version: Landlock's: a kernel refuses only what its own knows.
    func forbidden(version: Int) -> [SandboxTrial.Attempt] {
        func attempt(_ call: String, _ body: @escaping () throws -> Void) -> SandboxTrial.Attempt {
            SandboxTrial.Attempt(call, .refused, body)
        }
        let other = directory + "/other"
        let parent = CurrentProcess.parentPID
        var attempts = [
            attempt("open(/etc/passwd)") { _ = try OwnedDescriptor.open(path: "/etc/passwd") },
            attempt("opendir(/)") { _ = try TextFile.list("/") },
            attempt("open(another's file)") { _ = try OwnedDescriptor.open(path: other + "/file") },
            attempt("open(O_CREAT, another's directory)") {
                _ = try OwnedDescriptor.create(path: other + "/new")
                unlink(other + "/new")
            },
            attempt("unlink(another's file)") {
                try check(unlink(other + "/file"), "unlink")
                _ = try OwnedDescriptor.create(path: other + "/file")
            },
            attempt("open(O_WRONLY, own directory)") {
                _ = try OwnedDescriptor.open(path: own + "/file", .writeOnly)
            },
            attempt("mkdir(own directory)") {
                try check(mkdir(own + "/new", 0o700), "mkdir")
                rmdir(own + "/new")
            },
            attempt("readlink(/proc/PARENT/exe)") { _ = try TextFile.linkTarget("/proc/\(parent)/exe") },
        ]
        if access("/dev/kvm", R_OK | W_OK) == 0 {
            attempts.append(
                attempt("open(/dev/kvm)") { _ = try OwnedDescriptor.open(path: "/dev/kvm", .readWrite) })
        }
        if version >= 6, let handle = try? ProcessHandle(pid: parent) {
            let parentHandle = Kept(handle)
            // Signal 0 does nothing but ask.
            attempts.append(
                attempt("pidfd_send_signal(parent, 0)") { try parentHandle.handle.send(Signal(rawValue: 0)) })
        }
        return attempts
    }

    var allowed: [SandboxTrial.Attempt] {
        [
            // A file for each of both times.
            SandboxTrial.Attempt("unlink(own directory)", .allowed) {
                if unlink(own + "/first") != 0 { try check(unlink(own + "/second"), "unlink") }
            },
            SandboxTrial.Attempt("open(/sys/kernel)", .allowed) { _ = try TextFile.list("/sys/kernel") },
        ]
    }

    private func check(_ result: Int32, _ call: String) throws(LinuxError) {
        guard result == 0 else { throw LinuxError(call, Errno(rawValue: errno)) }
    }

    /// A handle for closures to keep.
    private final class Kept {
        let handle: ProcessHandle
        init(_ handle: consuming ProcessHandle) { self.handle = handle }
    }
}
