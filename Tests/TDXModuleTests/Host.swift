import MemoryUnits
import TDXModule
import TDXStatusCodes

/// A host for tests: a module that was brought up, an allocator of pages, and calls by name.
final class Host {
    let memory = SimulatedMemory()
    let module: TDXModule
    let platform: PlatformDescription
    /// The next page that was never used.
    var nextPage: UInt64
    /// The next 2 MiB range that was never used.
    var nextLarge: UInt64
    var processor = LogicalProcessorID(0)
    var registers = Registers()

    init(
        _ platform: PlatformDescription = PlatformDescription(memory: .gibibytes(2)), bringUp: Bool = true,
        dynamicPAMT: Bool = false
    ) throws {
        self.platform = platform
        module = try TDXModule(platform: platform, memory: memory, seed: 1)
        if bringUp {
            let status = module.bringUp(dynamicPAMT: dynamicPAMT)
            guard status == .success else { throw status }
        }
        nextPage = platform.convertibleMemory[0].start.rawValue
        nextLarge = nextPage + 1 << 30
    }

    func page() -> UInt64 {
        defer { nextPage += 4096 }
        return nextPage
    }

    func large() -> UInt64 {
        defer { nextLarge += 2 << 20 }
        return nextLarge
    }

    /// One call; `registers` hold what came of it.
    @discardableResult
    func call(
        _ leaf: SeamcallLeaf, version: UInt8 = 0, rcx: UInt64 = 0, rdx: UInt64 = 0, r8: UInt64 = 0, r9: UInt64 = 0,
        r10: UInt64 = 0, r11: UInt64 = 0, r12: UInt64 = 0, r13: UInt64 = 0
    ) -> TDXStatus {
        registers = Registers(
            leaf, version: version, rcx: rcx, rdx: rdx, r8: r8, r9: r9, r10: r10, r11: r11, r12: r12, r13: r13)
        return module.seamcall(&registers, on: processor)
    }

    /// A call that a test relies on.
    func must(
        _ leaf: SeamcallLeaf, version: UInt8 = 0, rcx: UInt64 = 0, rdx: UInt64 = 0, r8: UInt64 = 0, r9: UInt64 = 0,
        r10: UInt64 = 0, r11: UInt64 = 0
    ) throws {
        let status = call(leaf, version: version, rcx: rcx, rdx: rdx, r8: r8, r9: r9, r10: r10, r11: r11)
        if !status.isSuccess { throw CallFailed(leaf: leaf, status: status) }
    }

    /// TD_PARAMS at a page of its own, in host memory.
    func parameters(_ change: (inout [UInt8]) -> Void = { _ in }) -> UInt64 {
        var bytes = [UInt8](repeating: 0, count: 1024)
        func put(_ value: UInt64, _ offset: Int, _ count: Int) {
            for index in 0..<count { bytes[offset + index] = UInt8(truncatingIfNeeded: value >> (8 * UInt64(index))) }
        }
        put(1 << 28, 0, 8)  // SEPT_VE_DISABLE
        put(3, 8, 8)
        put(8, 16, 2)
        put(6 | 3 << 3, 24, 8)
        put(100, 40, 2)
        change(&bytes)
        let address: UInt64 = 0x10_0000
        bytes.withUnsafeBytes { memory.write(HostPhysicalAddress(address), key: KeyID(0), from: $0) }
        return address
    }

    /// A trust domain as far as MNG.INIT, without vCPUs.
    func makeTD(key: UInt16? = nil, _ change: (inout [UInt8]) -> Void = { _ in }) throws -> UInt64 {
        let tdr = page()
        let range = platform.privateKeyIDs
        guard
            let key = key ?? range.first(where: { module.keyState(KeyID($0)) == .free })
        else { throw CallFailed(leaf: .mngCreate, status: .hkidNotFree) }
        try must(.mngCreate, rcx: tdr, rdx: UInt64(key))
        for package in 0..<platform.packages {
            processor = LogicalProcessorID(UInt32(package * platform.logicalProcessorsPerPackage))
            try must(.mngKeyConfig, rcx: tdr)
        }
        processor = LogicalProcessorID(0)
        for _ in 0..<6 { try must(.mngAddcx, rcx: page(), rdx: tdr) }
        try must(.mngInit, rcx: tdr, rdx: parameters(change))
        return tdr
    }

    /// An initialised vCPU.
    func makeVCPU(_ tdr: UInt64) throws -> UInt64 {
        let tdvpr = page()
        try must(.vpCreate, rcx: tdvpr, rdx: tdr)
        for _ in 0..<5 { try must(.vpAddcx, rcx: page(), rdx: tdvpr) }
        try must(.vpInit, rcx: tdvpr, rdx: 0x1234)
        return tdvpr
    }

    /// Tables for a GPA, down to the table of entries at `level`.
    func makeTables(_ tdr: UInt64, _ gpa: UInt64, to level: UInt64 = 0, root: UInt64 = 3) throws {
        for at in stride(from: root, to: level, by: -1) {
            let size: UInt64 = 1 << (12 + 9 * at)
            let status = call(.memSeptAdd, rcx: gpa & ~(size - 1) | at, rdx: tdr, r8: nextPage)
            if status == .success { nextPage += 4096 } else if status.base != .eptEntryStateIncorrect { throw status }
        }
    }

    /// A trust domain with one vCPU, finalised.
    func makeRunnable() throws -> (tdr: UInt64, tdvpr: UInt64) {
        let tdr = try makeTD()
        let tdvpr = try makeVCPU(tdr)
        try must(.mrFinalize, rcx: tdr)
        return (tdr, tdvpr)
    }

    /// Into the guest, and there.
    func enter(_ tdvpr: UInt64, on processor: LogicalProcessorID? = nil) -> TDXStatus {
        registers = Registers(.vpEnter, rcx: tdvpr)
        return module.enter(&registers, on: processor ?? self.processor)
    }

    @discardableResult
    func exit(_ tdvpr: UInt64, _ exit: TDExit = .externalInterrupt) -> TDXStatus? {
        module.exit(exit, vcpu: HostPhysicalAddress(tdvpr), into: &registers)
    }

    /// A guest's call on a vCPU that is inside.
    func guest(
        _ tdvpr: UInt64, _ leaf: TDCallLeaf, rcx: UInt64 = 0, rdx: UInt64 = 0, r8: UInt64 = 0
    ) -> TDCallOutcome {
        registers = Registers(leaf, rcx: rcx, rdx: rdx, r8: r8)
        return module.tdcall(&registers, vcpu: HostPhysicalAddress(tdvpr))
    }

    func accept(_ tdvpr: UInt64, _ gpa: UInt64) -> TDCallOutcome { guest(tdvpr, .memPageAccept, rcx: gpa) }

    func state(_ tdr: UInt64) -> TrustDomainState { module.trustDomain(HostPhysicalAddress(tdr))! }
    func metadata(_ page: UInt64) -> PageMetadata { module.metadata(of: HostPhysicalAddress(page))! }
    func entry(_ gpa: UInt64, _ tdr: UInt64, level: Int = 0) -> SecureEPTEntry {
        module.entry(GuestPhysicalAddress(gpa), level: level, of: HostPhysicalAddress(tdr))!
    }

    /// From any state to nothing: flush, write back, free the key, reclaim what the PAMT says belongs to it.
    func tearDown(_ tdr: UInt64, vcpus: [UInt64]) throws {
        for vcpu in vcpus {
            let status = call(.vpFlush, rcx: vcpu)
            if status != .success && status != .vcpuNotAssociated { throw CallFailed(leaf: .vpFlush, status: status) }
        }
        try must(.mngVpflushdone, rcx: tdr)
        for package in 0..<platform.packages {
            processor = LogicalProcessorID(UInt32(package * platform.logicalProcessorsPerPackage))
            try must(.phymemCacheWb)
        }
        processor = LogicalProcessorID(0)
        try must(.mngKeyFreeid, rcx: tdr)
        let starts = [(platform.convertibleMemory[0].start.rawValue, nextPage), (nextLargeStart, nextLarge)]
        for (start, end) in starts {
            var at = start
            while at < end {
                let page = metadata(at)
                if page.type != .free, page.type != .tdr, page.owner.rawValue == tdr {
                    try must(.phymemPageReclaim, rcx: at)
                }
                at += page.size == 1 ? 2 << 20 : 4096
            }
        }
        try must(.phymemPageReclaim, rcx: tdr)
    }

    private var nextLargeStart: UInt64 { platform.convertibleMemory[0].start.rawValue + 1 << 30 }
}

struct CallFailed: Error {
    var leaf: SeamcallLeaf
    var status: TDXStatus
}

extension TDXStatus: Error {}
