import KVM
import LinuxSystem
import MemoryUnits
import Synchronization
import SystemPackage
import TDXStatusCodes

/// A KVM that answers as it is told, for what no machine at hand does.
final class ScriptedSystem: KVMSystem {
    struct Script: Sendable {
        var capabilities: [KVMCapability: Int] = [:]
        var vmCapabilities: [KVMCapability: Int] = [:]
        var tdxCapabilities = TDXCapabilities(
            supportedAttributes: 0, supportedXFAM: 0xE7, supportedCommands: 0, configurableCPUID: [])
        var creation: KVMError?
        var initialization: KVMError?
        var finalization: KVMError?
        var termination: KVMError?
    }

    let script: Script
    /// Calls in order, and VMs that are open.
    let log = Mutex<[String]>([])
    let open = Atomic(0)

    init(_ script: Script) { self.script = script }

    func apiVersion() throws(KVMError) -> Int { 12 }
    func check(_ capability: KVMCapability) throws(KVMError) -> Int { script.capabilities[capability] ?? 0 }
    func createVirtualMachine(_ type: VMType) throws(KVMError) -> any KVMVirtualMachine {
        if let error = script.creation { throw error }
        open.add(1, ordering: .relaxed)
        return ScriptedMachine(type, self)
    }
    var openCount: Int { open.load(ordering: .relaxed) }
    var calls: [String] { log.withLock { $0 } }
}

final class ScriptedMachine: KVMVirtualMachine {
    let type: VMType
    private let system: ScriptedSystem
    private let isOpen = Atomic(true)

    init(_ type: VMType, _ system: ScriptedSystem) {
        self.type = type
        self.system = system
    }

    private func answer(_ call: String, _ error: KVMError?) throws(KVMError) {
        system.log.withLock { $0.append(call) }
        if let error { throw error }
    }

    func check(_ capability: KVMCapability) throws(KVMError) -> Int { system.script.vmCapabilities[capability] ?? 0 }
    func enable(_ capability: KVMCapability, _ arguments: [UInt64]) throws(KVMError) { try answer("enable", nil) }
    func createGuestMemory(size: ByteCount, flags: GuestMemoryFlags) throws(KVMError) -> any KVMGuestMemory {
        throw KVMError("KVM_CREATE_GUEST_MEMFD", .inappropriateIOCTLForDevice)
    }
    func setMemorySlot(_ slot: MemorySlot) throws(KVMError) { try answer("slot", nil) }
    func deleteMemorySlot(_ id: UInt32) throws(KVMError) { try answer("delete", nil) }
    func setMemoryAttributes(_ range: GuestPhysicalRange, isPrivate: Bool) throws(KVMError) {
        try answer("attributes", nil)
    }
    func createVCPU(id: UInt32) throws(KVMError) -> any KVMVirtualCPU {
        throw KVMError("KVM_CREATE_VCPU", .ioError)
    }
    func setTSCFrequency(kilohertz: UInt32) throws(KVMError) { try answer("tsc", nil) }
    func tdxCapabilities() throws(KVMError) -> TDXCapabilities { system.script.tdxCapabilities }
    func tdxInitialize(_ parameters: TDXInitialization) throws(KVMError) {
        try answer("initialize", system.script.initialization)
    }
    func tdxFinalize() throws(KVMError) { try answer("finalize", system.script.finalization) }
    func tdxTerminate() throws(KVMError) { try answer("terminate", system.script.termination) }
    func close() { if isOpen.exchange(false, ordering: .relaxed) { system.open.subtract(1, ordering: .relaxed) } }
}
