public import KVM
internal import MemoryUnits
internal import SystemPackage
public import TDXModule

/// /dev/kvm of a host with TDX, emulated: it offers VM type 5, whose memory is real and whose TDX module is software.
/// Other VM types are those of the kernel underneath, where there is one.
public final class EmulatedKVMSystem: KVMSystem {
    private let host: HostContext

    /// Brings the software module up. Nothing is allocated for the TDs to come.
    public init(_ configuration: EmulatorConfiguration) throws(EmulatorError) {
        host = try HostContext(configuration)
    }

    public convenience init(host: EmulatedHost) throws(EmulatorError) {
        try self.init(EmulatorConfiguration(host: host))
    }

    /// Key ids that no TD holds at this moment.
    public var freeKeyIDs: Int { host.keys.freeCount }

    /// Emulated physical memory that is handed out: control pages, and 2 MiB pieces of guest memory files.
    public var framesInUse: (controlPages: UInt64, fileChunks: UInt64) { host.frames.usage }

    /// Makes the module meet conditions that a model never meets by itself: no entropy, a failing key, interrupts.
    public var faults: FaultInjector { host.module.faults }

    /// Gives every call of the software module to `sink` as a line of JSON, in the order in which calls end; the first line
    /// describes the platform. `TraceReplay` makes the calls again. To be called before the first VM is made.
    public func record(_ sink: @escaping @Sendable (String) -> Void) {
        sink(TraceEvent.header(host.module, broughtUp: true))
        host.module.record { sink($0.json()) }
    }

    public func apiVersion() throws(KVMError) -> Int { try kernel?.apiVersion() ?? 12 }

    public func check(_ capability: KVMCapability) throws(KVMError) -> Int {
        if capability == .vmTypes { return try (kernel?.check(.vmTypes) ?? 0) | 1 << Int(VMType.tdx.rawValue) }
        if let own = Capabilities.ofSystem(capability, host: host) { return own }
        return try kernel?.check(capability) ?? 0
    }

    public func createVirtualMachine(_ type: VMType) throws(KVMError) -> any KVMVirtualMachine {
        guard type == .tdx else {
            guard let kernel else { throw KVMError("KVM_CREATE_VM", .invalidArgument, detail: "type \(type.rawValue)") }
            return try kernel.createVirtualMachine(type)
        }
        return try createTrustDomainVM()
    }

    /// KVM_CREATE_VM of type 5, with the emulator's own view of it.
    public func createTrustDomainVM() throws(KVMError) -> EmulatedVirtualMachine {
        let backing: any BackingVM =
            switch host.configuration.host {
            case .guestMemfd(let kernel): try KernelBackingVM(kernel, type: .default)
            case .softwareProtected(let kernel): try KernelBackingVM(kernel, type: .softwareProtected)
            case .memfd: MemfdBackingVM()
            }
        return EmulatedVirtualMachine(TDXMachine(host: host, backing: backing))
    }

    private var kernel: (any KVMSystem)? { host.kernel }
}
