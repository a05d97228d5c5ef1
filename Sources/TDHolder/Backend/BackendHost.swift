internal import ControlInterface
internal import KVM
internal import LinuxSystem
internal import MemoryUnits
internal import Synchronization
public import TDXEmulator

/// How an emulated host is to behave, beside what the backend decides.
public struct EmulationOptions: Sendable {
    public var terminate: TerminateSupport
    /// CPU packages, 1 … 8.
    public var packages: Int
    /// Where every call of the software module is recorded, a path that does not exist yet; nil for nowhere.
    public var tracePath: String?
    /// The last will is rehearsed.
    public var rehearsesLastWill: Bool
    /// The phase of the TD's end at whose beginning the process stops itself until it is continued; nil for none.
    public var pausesAt: Pause?
    /// Which page that is taken from the TD the software module refuses to give up, from 1; nil for none.
    public var failingRemoval: Int?
    /// The TD's first vCPU enters KVM_RUN and cannot be driven out.
    public var keepsVCPU: Bool
    /// The emulated kernel has KVM_PRE_FAULT_MEMORY.
    public var preFaults: Bool

    /// As the phases of a teardown are named.
    public enum Pause: String, Hashable, Sendable, CaseIterable {
        case quiesce, terminate, release, close
    }

    public init(
        terminate: TerminateSupport = .announced, packages: Int = 1, tracePath: String? = nil,
        rehearsesLastWill: Bool = false, pausesAt: Pause? = nil, failingRemoval: Int? = nil,
        keepsVCPU: Bool = false, preFaults: Bool = true
    ) {
        self.terminate = terminate
        self.packages = packages
        self.tracePath = tracePath
        self.rehearsesLastWill = rehearsesLastWill
        self.pausesAt = pausesAt
        self.failingRemoval = failingRemoval
        self.keepsVCPU = keepsVCPU
        self.preFaults = preFaults
    }

    /// With the host's settings over these.
    func changed(by settings: EmulationSettings?) -> Self {
        guard let settings else { return self }
        var changed = self
        switch settings.terminate {
        case .announced: changed.terminate = .announced
        case .unannounced: changed.terminate = .unannounced
        case .absent: changed.terminate = .absent
        case nil: break
        }
        if let phase = settings.pauseAt { changed.pausesAt = Pause(rawValue: phase.rawValue) }
        if let number = settings.failingRemoval { changed.failingRemoval = Int(number.rawValue) }
        if let isStuck = settings.stuckVCPU { changed.keepsVCPU = isStuck }
        if let preFaults = settings.preFault { changed.preFaults = preFaults }
        return changed
    }

    /// Reads `absent`, `announced`, `unannounced` or `busy:COUNT` with a count of 1 to 1,000. Nil otherwise.
    public static func terminateSupport(parsing text: String) -> TDXEmulator.TerminateSupport? {
        switch text {
        case "absent": return .absent
        case "announced": return .announced
        case "unannounced": return .unannounced
        default:
            guard text.hasPrefix("busy:"), let times = Int(text.dropFirst(5)), (1...1000).contains(times) else {
                return nil
            }
            return .busy(times: times)
        }
    }
}

/// The kernel of a backend, opened once; each TD gets a `KVMSystem` from it.
struct BackendHost: Sendable {
    let chosen: ChosenBackend
    /// Nil for backend memfd.
    let kernel: (any KVMSystem)?
    let emulation: EmulationOptions
    /// Nil where nothing is recorded.
    let trace: TraceFile?
    /// KVM_TDX_TERMINATE_VM, as probed.
    let canTerminate: Bool

    var backend: Backend { chosen.backend }

    /// What this process's last will has to do: terminate the TD where the kernel can. An emulated TD dies with the process
    /// that it is emulated in, so there it can only be rehearsed, on the real VM underneath. Nil for nothing.
    var lastWill: LastWill.Order? {
        switch backend {
        case .tdx: canTerminate ? .terminateTrustDomain : nil
        case .softwareProtected, .guestMemfd: emulation.rehearsesLastWill ? .rehearsal : nil
        case .memfd: nil
        }
    }

    /// The system that a TD is built on. On emulated backends its pool of key ids is `keyID` alone.
    /// - Throws: `.invalidField` for a key id that the emulator cannot have.
    func makeSystem(keyID: KeyID, emulation: EmulationOptions) throws(ControlError) -> HostedSystem {
        if backend == .tdx { return HostedSystem(kernel!) }
        let host: EmulatedHost =
            switch backend {
            case .softwareProtected: .softwareProtected(kernel!)
            case .guestMemfd: .guestMemfd(kernel!)
            case .memfd, .tdx: .memfd
            }
        do {
            let system = try EmulatedKVMSystem(
                EmulatorConfiguration(
                    host: host, keyIDs: [keyID], terminate: emulation.terminate, packages: emulation.packages,
                    failingRemoval: emulation.failingRemoval, keepsVCPUs: emulation.keepsVCPU,
                    preFaults: emulation.preFaults))
            if let trace { system.record { trace.write($0) } }
            return HostedSystem(system)
        } catch {
            throw .invalidField(field: "key_id", value: String(keyID.rawValue), limit: "\(error)")
        }
    }
}

/// A system that remembers the emulated VM that was made on it, for the evidence that only the emulator has.
final class HostedSystem: KVMSystem {
    private let system: any KVMSystem
    private let machine = Mutex<EmulatedVirtualMachine?>(nil)

    init(_ system: any KVMSystem) { self.system = system }

    /// What the emulated host knows of the TD, also after its end; nil on hardware or before a VM was made.
    var inspection: EmulatedInspection? { machine.withLock { $0 }?.inspection }

    /// The first KVM_BUG_ON of the emulated kernel; nil on hardware, where only the kernel's log has it.
    var bug: EmulatedBug? { machine.withLock { $0 }?.bug }

    func apiVersion() throws(KVMError) -> Int { try system.apiVersion() }

    func check(_ capability: KVMCapability) throws(KVMError) -> Int { try system.check(capability) }

    func createVirtualMachine(_ type: VMType) throws(KVMError) -> any KVMVirtualMachine {
        let made = try system.createVirtualMachine(type)
        if let emulated = made as? EmulatedVirtualMachine { machine.withLock { $0 = emulated } }
        return made
    }
}

extension BackendHost {
    /// Probes the host, chooses a backend and opens what it needs.
    /// - Parameter device: path of the KVM device.
    /// - Throws: when a backend was asked for by name that the host does not offer, and when the trace's file cannot be
    ///   made.
    static func open(_ choice: BackendChoice, emulation: EmulationOptions, device: String) throws -> BackendHost {
        let (readings, system) = HostReadings.read(device: device)
        let chosen = try BackendChooser.choose(choice, from: readings.offers)
        // The module of a real host cannot be recorded.
        let path = chosen.backend.isEmulated ? emulation.tracePath : nil
        return BackendHost(
            chosen: chosen, kernel: chosen.backend == .memfd ? nil : system, emulation: emulation,
            trace: try path.map(TraceFile.init(creating:)),
            canTerminate: readings.kvm.value?.terminate.value == .supported)
    }
}
