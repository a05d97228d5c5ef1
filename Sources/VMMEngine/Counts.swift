internal import KVM
internal import Synchronization

/// How often each request came, and how it was refused.
final class RequestCounts: Sendable {
    private struct Numbers {
        var requests: [UInt32: UInt64] = [:]
        var commands: [String: UInt64] = [:]
        var refusals: [UInt32: [Int32: UInt64]] = [:]
    }
    private let numbers = Mutex(Numbers())

    func add(_ request: UInt32) { numbers.withLock { $0.requests[request, default: 0] += 1 } }
    func add(refusal request: UInt32, _ errno: Int32) {
        numbers.withLock { $0.refusals[request, default: [:]][errno, default: 0] += 1 }
    }
    func add(command id: UInt32, onVM: Bool) {
        let names = [
            "KVM_TDX_CAPABILITIES", "KVM_TDX_INIT_VM", "KVM_TDX_INIT_VCPU", "KVM_TDX_INIT_MEM_REGION",
            "KVM_TDX_FINALIZE_VM", "KVM_TDX_GET_CPUID", "KVM_TDX_TERMINATE_VM",
        ]
        let name = Int(id) < names.count ? names[Int(id)] : "KVM_MEMORY_ENCRYPT_OP, command \(id)"
        numbers.withLock { $0.commands[name, default: 0] += 1 }
    }

    /// By name; requests that the project does not name are listed by their numbers.
    var requests: [String: UInt64] {
        numbers.withLock { numbers in
            var named = numbers.commands
            for (request, count) in numbers.requests { named[RequestName.of(request), default: 0] += count }
            return named
        }
    }

    /// "KVM_CREATE_VM: errno 22" and how often.
    var refusals: [String: UInt64] {
        numbers.withLock { numbers in
            var named: [String: UInt64] = [:]
            for (request, errnos) in numbers.refusals {
                for (errno, count) in errnos { named["\(RequestName.of(request)): errno \(errno)"] = count }
            }
            return named
        }
    }
}

/// What happened to one TD.
final class MachineCounts: Sendable {
    struct Numbers {
        var vcpus = 0
        var guestMemory: UInt64 = 0
        var exits: [String: UInt64] = [:]
        var toShared: UInt64 = 0
        var toSharedBytes: UInt64 = 0
        var toPrivate: UInt64 = 0
        var toPrivateBytes: UInt64 = 0
        var punched: UInt64 = 0
        var loadedPages: UInt64 = 0
        var measuredPages: UInt64 = 0
        /// What is worth a sentence; each once, at most `maximumNotes`.
        var notes: [String] = []
    }
    private static let maximumNotes = 50
    private let numbers = Mutex(Numbers())

    var now: Numbers { numbers.withLock { $0 } }

    func addVCPU() { numbers.withLock { $0.vcpus += 1 } }
    func add(guestMemory bytes: UInt64) { numbers.withLock { $0.guestMemory &+= bytes } }
    func add(punched bytes: UInt64) { numbers.withLock { $0.punched &+= bytes } }
    func add(loadedPages: UInt64, measured: Bool) {
        numbers.withLock {
            $0.loadedPages += loadedPages
            if measured { $0.measuredPages += loadedPages }
        }
    }
    func add(conversionToShared: Bool, bytes: UInt64) {
        numbers.withLock {
            if conversionToShared {
                $0.toShared += 1
                $0.toSharedBytes &+= bytes
            } else {
                $0.toPrivate += 1
                $0.toPrivateBytes &+= bytes
            }
        }
    }
    func note(_ text: String) {
        numbers.withLock {
            if $0.notes.count < Self.maximumNotes, !$0.notes.contains(text) { $0.notes.append(text) }
        }
    }
    func add(_ exit: VCPUExit) {
        let name: String
        switch exit {
        case .io: name = "IO"
        case .mmio: name = "MMIO"
        case .hypercall(let number, _): name = number == 12 ? "HYPERCALL MAP_GPA_RANGE" : "HYPERCALL \(number)"
        case .halt: name = "HLT"
        case .shutdown: name = "SHUTDOWN"
        case .memoryFault: name = "MEMORY_FAULT"
        case .systemEvent(let type, _): name = type == 7 ? "SYSTEM_EVENT TDX_FATAL" : "SYSTEM_EVENT \(type)"
        case .tdx(let exit):
            switch exit {
            case .getTDVMCallInfo: name = "TDX GetTdVmCallInfo"
            case .getQuote: name = "TDX GetQuote"
            case .setupEventNotify: name = "TDX SetupEventNotifyInterrupt"
            case .other(let number, _): name = "TDX 0x\(String(number, radix: 16))"
            }
        case .failedEntry: name = "FAIL_ENTRY"
        case .internalError: name = "INTERNAL_ERROR"
        case .interrupted: name = "INTR"
        case .other(let reason): name = "\(reason)"
        }
        numbers.withLock { $0.exits[name, default: 0] += 1 }
    }
}

/// Names of requests.
enum RequestName {
    private static let known: [UInt32: String] = Dictionary(
        KVMRequest.all.map { ($0.number, $0.name) }, uniquingKeysWith: { first, _ in first })

    static func of(_ request: UInt32) -> String {
        known[request] ?? "KVM request 0x\(String(request, radix: 16, uppercase: true))"
    }
}
