import Glibc
import LinuxSystem
import Synchronization
import SystemPackage

/// The three programs, which are built beside the tests.
enum Programs {
    /// The directory that the running test program lies in.
    static let directory: String = {
        let own = (try? TextFile.linkTarget("/proc/self/exe")) ?? ""
        return own.lastIndex(of: "/").map { String(own[..<$0]) } ?? "."
    }()

    static var tdxd: String { directory + "/tdxd" }
    static var tdxctl: String { directory + "/tdxctl" }

    /// A real TDVF image; Debian's package ovmf.
    static let firmware = "/usr/share/ovmf/OVMF.fd"

    static var hasFirmware: Bool { access(firmware, R_OK) == 0 }
    static var isRoot: Bool { geteuid() == 0 }
    static var hasKVM: Bool { access("/dev/kvm", R_OK | W_OK) == 0 }
}

/// What a program that ran to its end said.
struct Finished: Sendable, CustomStringConvertible {
    var status: Int32
    var output: String
    var errors: String

    var description: String { "status \(status)\n\(output)\(errors)" }
}

/// Runs a program to its end, with both outputs in files, so that no pipe can fill.
func runProgram(
    _ path: String, _ arguments: [String], environment: [String: String] = [:], in directory: String
) throws -> Finished {
    let number = numbers.next()
    let outPath = "\(directory)/out.\(number)"
    let errPath = "\(directory)/err.\(number)"
    let out = try openForAppending(outPath)
    let err = try openForAppending(errPath)
    let program = ProgramStart(
        path: path, arguments: arguments,
        environment: ["PATH=/usr/bin:/bin:/usr/sbin:/sbin"] + environment.map { "\($0.key)=\($0.value)" },
        descriptors: [(source: out.rawValue, target: 1), (source: err.rawValue, target: 2)])
    let exit = try program.start().wait()
    let status: Int32 =
        switch exit {
        case .exited(let status): status
        case .killed(let signal, _): -signal.rawValue
        }
    return Finished(status: status, output: try TextFile.read(outPath), errors: try TextFile.read(errPath))
}

func openForAppending(_ path: String) throws -> OwnedDescriptor {
    let number = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
    guard number >= 0 else { throw LinuxError("open", Errno(rawValue: errno), detail: path) }
    return OwnedDescriptor(taking: number)
}

/// Waits until something is so; the generous limit only keeps a failing test from hanging.
func eventually(within seconds: Int64 = 120, _ condition: () throws -> Bool) rethrows -> Bool {
    let end = MonotonicInstant.now + .seconds(seconds)
    while MonotonicInstant.now < end {
        if try condition() { return true }
        usleep(10_000)
    }
    return try condition()
}

/// Numbers that are never used twice in one test run.
private final class Counter: Sendable {
    private let value = Atomic<Int>(0)

    func next() -> Int { value.wrappingAdd(1, ordering: .relaxed).newValue }
}

private let numbers = Counter()
