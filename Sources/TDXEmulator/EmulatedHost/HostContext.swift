internal import KVM
public import MemoryUnits
internal import Synchronization
internal import TDXModule
public import TDXStatusCodes

/// What all VMs of one emulated host share: the module, physical memory, key ids, and the host-wide lock that serialises
/// key work (reference/kvm.md §4.4).
final class HostContext: Sendable {
    let configuration: EmulatorConfiguration
    let module: TDXModule
    let frames: HostFrames
    let keys: KeyPool
    /// Serialises MNG.CREATE, VPFLUSHDONE, CACHE.WB and KEY.FREEID of all TDs.
    let tdxLock = Lock()
    let capabilities: TDXCapabilities
    let globalKeyID: KeyID
    private let keyIDShift: UInt64

    init(_ configuration: EmulatorConfiguration) throws(EmulatorError) {
        guard !configuration.keyIDs.isEmpty, Set(configuration.keyIDs).count == configuration.keyIDs.count,
            let lowest = configuration.keyIDs.min(), let highest = configuration.keyIDs.max(), lowest.rawValue >= 2,
            highest.rawValue <= 2046
        else { throw .keyIDs(configuration.keyIDs) }
        guard configuration.memory >= .mebibytes(64), configuration.memory <= .gibibytes(16 << 10) else {
            throw .memory(configuration.memory)
        }
        let mktmeKeys = min(31, lowest.rawValue - 2)
        let bits = UInt16.bitWidth - highest.rawValue.leadingZeroBitCount
        var platform = PlatformDescription(
            memory: configuration.memory, packages: configuration.packages,
            logicalProcessorsPerPackage: configuration.processorsPerPackage, mktmeKeys: mktmeKeys,
            tdxKeys: max(highest.rawValue - mktmeKeys, 2), keyIDBits: max(bits, 6),
            // Linux creates vCPUs by version 1 of VP.INIT, which the late snapshots have.
            version: .late)
        platform.processor = configuration.processor
        frames = HostFrames(size: configuration.memory) { _ in true }
        do throws(PlatformError) {
            module = try TDXModule(platform: platform, memory: EmulatedMemory(frames: frames))
        } catch {
            throw .platform("\(error)")
        }
        let status = module.bringUp()
        guard status.isSuccess else { throw .module(status) }
        if let number = configuration.failingRemoval { module.faults.arm(.pageMetadata, skipping: number - 1) }
        self.configuration = configuration
        keys = KeyPool(configuration.keyIDs, limit: configuration.keyIDLimit)
        // The lowest private key id is the module's own.
        globalKeyID = KeyID(platform.privateKeyIDs.lowerBound)
        keyIDShift = UInt64(52 - platform.keyIDBits)
        capabilities = TDParameters.capabilities(terminate: configuration.terminate)
    }

    /// The kernel underneath, where there is one.
    var kernel: (any KVMSystem)? {
        switch configuration.host {
        case .guestMemfd(let kernel), .softwareProtected(let kernel): kernel
        case .memfd: nil
        }
    }

    var processors: Int { configuration.packages * configuration.processorsPerPackage }

    /// The first logical processor of a package, on which the kernel does that package's work.
    func firstProcessor(of package: Int) -> LogicalProcessorID {
        LogicalProcessorID(UInt32(package * configuration.processorsPerPackage))
    }

    /// A frame's address with a key id in its upper bits.
    func address(_ page: HostPhysicalAddress, with keyID: KeyID) -> UInt64 {
        page.rawValue | UInt64(keyID.rawValue) << keyIDShift
    }

    /// The state of a key id in the module's key table, in the reference's words; nil for one that is not private.
    func keyStateName(of keyID: KeyID) -> String? {
        switch module.keyState(keyID) {
        case .free: "FREE"
        case .assigned: "ASSIGNED"
        case .flushed: "FLUSHED"
        case .reserved: "RESERVED"
        case nil: nil
        }
    }

    /// One SEAMCALL. "No entropy" is repeated ten times, as the kernel's wrapper does.
    func seamcall(
        _ call: Registers, on processor: LogicalProcessorID, leaf: SeamcallLeaf, counts: SeamcallCounts
    ) -> Registers {
        var registers = call
        for _ in 0..<10 {
            registers = call
            counts.add(leaf)
            if module.seamcall(&registers, on: processor).base != .rndNoEntropy { break }
        }
        return registers
    }
}

extension Registers {
    /// RAX after a call.
    var status: TDXStatus { TDXStatus(rax) }
}

/// How often each SEAMCALL leaf was made for one TD, bumped without a lock.
final class SeamcallCounts: Sendable {
    private let counters: [Counter]

    private final class Counter: Sendable {
        let value = Atomic<UInt64>(0)
    }

    /// Leaves are below 128.
    init() { counters = (0..<128).map { _ in Counter() } }

    func add(_ leaf: SeamcallLeaf) { counters[Int(leaf.rawValue)].value.wrappingAdd(1, ordering: .relaxed) }

    /// By the module's name for the leaf; leaves that were never called are left out.
    var byName: [String: UInt64] {
        var result: [String: UInt64] = [:]
        for leaf in SeamcallLeaf.allCases {
            let count = counters[Int(leaf.rawValue)].value.load(ordering: .relaxed)
            if count > 0 { result[leaf.name] = count }
        }
        return result
    }
}

/// Why an emulated host could not be made.
public enum EmulatorError: Error, Hashable, Sendable {
    /// Key ids must be distinct, at least one, each 2 … 2046.
    case keyIDs([KeyID])
    /// Emulated memory must be 64 MiB … 16 TiB.
    case memory(ByteCount)
    /// The module refused the description of the machine.
    case platform(String)
    /// The module did not come up.
    case module(TDXStatus)
}
