import CPeers
import MemoryUnits
import TDXModule
import TDXStatusCodes

/// A call that had to succeed did not.
struct CallFailed: Error, CustomStringConvertible {
    var leaf: SeamcallLeaf
    var status: TDXStatus
    var description: String { "\(leaf.name): \(status)" }
}

/// A host that drives the software module by bare SEAMCALLs. Pages have no contents: what is measured is metadata.
final class EmulatedHost: @unchecked Sendable {
    // Sound: a thread that works beside another touches its own domain and the module, which takes calls from several.
    let module: TDXModule
    let platform: PlatformDescription
    private var nextPage: UInt64
    /// What `page()` handed out, in order.
    private(set) var controlPages: [UInt64] = []
    private let parameters = ParameterMemory()

    init(_ platform: PlatformDescription) throws {
        self.platform = platform
        module = try TDXModule(platform: platform, memory: parameters, seed: 1)
        let status = module.bringUp()
        guard status == .success else { throw CallFailed(leaf: .sysConfig, status: status) }
        nextPage = platform.convertibleMemory[0].start.rawValue
    }

    /// A page that was never used.
    func page() -> UInt64 {
        defer { nextPage += 4096 }
        controlPages.append(nextPage)
        return nextPage
    }

    /// Consecutive pages that were never used, from a 2 MiB border on.
    func pages(_ count: UInt64) -> UInt64 {
        nextPage = (nextPage + (2 << 20) - 1) & ~((2 << 20) - 1)
        defer { nextPage += count * 4096 }
        return nextPage
    }

    func must(_ registers: Registers, on processor: LogicalProcessorID = LogicalProcessorID(0)) throws {
        var changed = registers
        let status = module.seamcall(&changed, on: processor)
        guard status.isSuccess else {
            throw CallFailed(leaf: SeamcallLeaf(rawValue: UInt16(truncatingIfNeeded: registers.rax))!, status: status)
        }
    }

    /// A finalised TD with vCPUs.
    func makeDomain(vcpus: Int = 1, finalized: Bool = true) throws -> Domain {
        let tdr = page()
        guard let key = platform.privateKeyIDs.first(where: { module.keyState(KeyID($0)) == .free }) else {
            throw Unavailable("no free key id")
        }
        try must(Registers(.mngCreate, rcx: tdr, rdx: UInt64(key)))
        for package in 0..<platform.packages {
            try must(
                Registers(.mngKeyConfig, rcx: tdr),
                on: LogicalProcessorID(UInt32(package * platform.logicalProcessorsPerPackage)))
        }
        for _ in 0..<6 { try must(Registers(.mngAddcx, rcx: page(), rdx: tdr)) }
        try must(Registers(.mngInit, rcx: tdr, rdx: parameters.address(vcpus: vcpus)))
        var tdvprs: [UInt64] = []
        for index in 0..<vcpus {
            let tdvpr = page()
            try must(Registers(.vpCreate, rcx: tdvpr, rdx: tdr))
            for _ in 0..<5 { try must(Registers(.vpAddcx, rcx: page(), rdx: tdvpr)) }
            let processor = LogicalProcessorID(UInt32(index % platform.logicalProcessors))
            try must(Registers(.vpInit, rcx: tdvpr), on: processor)
            // INIT associates the vCPU with the processor; another TD's vCPU may come there next.
            try must(Registers(.vpFlush, rcx: tdvpr), on: processor)
            tdvprs.append(tdvpr)
        }
        if finalized { try must(Registers(.mrFinalize, rcx: tdr)) }
        return Domain(host: self, tdr: tdr, tdvprs: tdvprs)
    }
}

/// Host memory for TD_PARAMS alone; everything else has no contents.
final class ParameterMemory: PhysicalMemory, @unchecked Sendable {
    // Sound: written by `address(vcpus:)` before the call that reads it, on the same thread.
    private static let place: UInt64 = 0x10_0000
    private var bytes = [UInt8](repeating: 0, count: 4096)

    func address(vcpus: Int) -> UInt64 {
        bytes = [UInt8](repeating: 0, count: 4096)
        func put(_ value: UInt64, _ offset: Int, _ count: Int) {
            for index in 0..<count { bytes[offset + index] = UInt8(truncatingIfNeeded: value >> (8 * UInt64(index))) }
        }
        put(1 << 28, 0, 8)  // SEPT_VE_DISABLE
        put(3, 8, 8)
        put(UInt64(max(vcpus, 8)), 16, 2)
        put(6 | 3 << 3, 24, 8)
        put(100, 40, 2)
        return Self.place
    }

    func read(_ address: HostPhysicalAddress, key: KeyID, into buffer: UnsafeMutableRawBufferPointer) {
        guard address.rawValue & ~0xfff == Self.place else {
            buffer.initializeMemory(as: UInt8.self, repeating: 0)
            return
        }
        let offset = Int(address.rawValue & 0xfff)
        bytes.withUnsafeBytes {
            buffer.copyMemory(from: UnsafeRawBufferPointer(rebasing: $0[offset..<offset + buffer.count]))
        }
    }
    func write(_ address: HostPhysicalAddress, key: KeyID, from buffer: UnsafeRawBufferPointer) {}
    func zeroPage(_ page: HostPhysicalAddress, key: KeyID) {}
    func copyPage(
        from source: HostPhysicalAddress, sourceKey: KeyID, to destination: HostPhysicalAddress, key: KeyID
    ) {}
}
