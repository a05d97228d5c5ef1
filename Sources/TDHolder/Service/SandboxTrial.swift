internal import CLinux
internal import KVM
internal import LinuxSystem
internal import MemoryUnits
internal import ServiceSupport
internal import SystemPackage

/// One system call, tried before and after the fence and the serving filter were put in place.
public struct SandboxTrial: Codable, Hashable, Sendable {
    public enum Expectation: String, Codable, Sendable {
        case refused
        case allowed
    }

    public var call: String
    public var expected: Expectation
    /// "ok" or the errno's name.
    public var before: String
    public var after: String
    /// A refusal counts only where the call came through before: otherwise it may have had another reason.
    public var isAsExpected: Bool

    enum CodingKeys: String, CodingKey {
        case call, expected, before, after
        case isAsExpected = "as_expected"
    }

    struct Attempt {
        var call: String
        var expected: Expectation
        /// Zero or more, or a negative errno.
        var attempt: () -> Int
    }

    /// Tries everything, enters the fence, installs the filter and tries everything again. Both stay.
    /// - Parameter directory: an empty one, in which two are made.
    static func runAll(in directory: String) throws -> [SandboxTrial] {
        let file = try MemoryFile(name: "tdxd-sandbox-check", size: ByteCount(pageSize))
        let descriptor = try file.duplicateDescriptor()
        let kvm = try? KernelKVMSystem()
        let fenced = try FenceTrials(in: directory)
        var attempts = forbidden(descriptor.rawValue) + allowed(file, kvm)
        if case .version(let version) = FileSystemFence.Support.ofKernel {
            attempts += fenced.forbidden(version: version) + fenced.allowed
        }
        let before = attempts.map { $0.attempt() }
        _ = try HolderSandbox.enterFence(directory: fenced.own)
        try HolderSandbox.install()
        let after = attempts.map { $0.attempt() }
        return attempts.indices.map { index in
            let attempt = attempts[index]
            let refusals = [-1, -13, -38]  // EPERM; EACCES by the fence; ENOSYS for clone3
            let holds =
                switch attempt.expected {
                case .refused: !refusals.contains(before[index]) && refusals.contains(after[index])
                case .allowed: before[index] >= 0 && after[index] >= 0
                }
            return SandboxTrial(
                call: attempt.call, expected: attempt.expected, before: name(before[index]), after: name(after[index]),
                isAsExpected: holds)
        }
    }

    /// Calls that do no harm where they are allowed. Numbers are x86-64's.
    private static func forbidden(_ file: Int32) -> [Attempt] {
        func raw(_ call: String, _ number: Int, _ a: Int = 0, _ b: Int = 0, _ c: Int = 0) -> Attempt {
            Attempt(call: call, expected: .refused) {
                let result = Int(tdxd_raw_call(number, a, b, c))
                if result > 2, call.hasPrefix("socket") { _ = OwnedDescriptor(taking: Int32(result)) }
                return result
            }
        }
        return [
            raw("socket(AF_INET)", 41, 2, 1), raw("socket(AF_INET6)", 41, 10, 1),
            raw("execve(nothing)", 59), raw("unshare(nothing)", 272), raw("kill(self, 0)", 62, Int(CurrentProcess.pid)),
            raw("setuid(own)", 105, Int(CurrentProcess.effectiveUID)), raw("chroot(nothing)", 161),
            raw("clone3(nothing)", 435), raw("ioctl(TIOCSTI)", 16, Int(file), 0x5412),
            raw("ioctl(KVM_GET_DIRTY_LOG)", 16, Int(file), 0x4010_AE42),
        ]
    }

    private static func allowed(_ file: MemoryFile, _ kvm: KernelKVMSystem?) -> [Attempt] {
        func attempt(_ call: String, _ body: @escaping () throws -> Void) -> Attempt {
            Attempt(call, .allowed, body)
        }
        let page = ByteCount(pageSize)
        var attempts = [
            attempt("fallocate(KEEP_SIZE)") { try file.allocate(offset: .zero, length: page) },
            attempt("mmap(MAP_SHARED)") { try file.map(length: page).unmap() },
            attempt("fallocate(PUNCH_HOLE)") { try file.punchHole(offset: .zero, length: page) },
            attempt("memfd_create") { try MemoryFile(name: "tdxd-sandbox-check", size: page).close() },
            attempt("clone(thread)") { try SystemThread(name: "sandbox-check") {}.join() },
            attempt("openat(/proc/self/status)") { _ = try TextFile.read("/proc/self/status") },
        ]
        if let kvm {
            attempts.append(attempt("ioctl(KVM_GET_API_VERSION)") { _ = try kvm.apiVersion() })
            attempts.append(attempt("ioctl(KVM_CREATE_VM)") { try kvm.createVirtualMachine(.default).close() })
        }
        return attempts
    }

    private static func name(_ result: Int) -> String {
        result >= 0 ? "ok" : Errno(rawValue: CInt(-result)).name
    }
}

extension SandboxTrial.Attempt {
    /// What throws is refused with the error's errno.
    init(_ call: String, _ expected: SandboxTrial.Expectation, _ body: @escaping () throws -> Void) {
        self.init(call: call, expected: expected) {
            do {
                try body()
                return 0
            } catch let error as LinuxError {
                return -Int(error.errno.rawValue)
            } catch let error as KVMError {
                return -Int(error.errno.rawValue)
            } catch {
                return -Int(Errno.invalidArgument.rawValue)
            }
        }
    }
}
