internal import MemoryUnits
internal import Synchronization
public import TDXStatusCodes

extension TDXModule {
    /// Runs SYS.INIT, LP.INIT, CONFIG, KEY.CONFIG and TDMR.INIT to the end, as a host does at boot, with the first
    /// private key id as the module's own. The first status other than success ends it.
    ///
    /// - Parameter dynamicPAMT: [late] asks for dynamic PAMT.
    @discardableResult
    public func bringUp(dynamicPAMT: Bool = false) -> TDXStatus {
        var registers = Registers(.sysInit)
        var status = seamcall(&registers, on: LogicalProcessorID(0))
        if !status.isSuccess { return status }
        for processor in 0..<platform.logicalProcessors {
            registers = Registers(.sysLpInit)
            status = seamcall(&registers, on: LogicalProcessorID(UInt32(processor)))
            if !status.isSuccess { return status }
        }
        // The tables that SYS.CONFIG reads lie in memory of their own: the host's memory stays as it is.
        let plan = BootPlan(platform: platform, dynamicPAMT: dynamicPAMT && isLate)
        registers = Registers(
            .sysConfig, rcx: BootPlan.listAddress, rdx: UInt64(plan.tdmrs.count),
            r8: UInt64(platform.privateKeyIDs.lowerBound) | (dynamicPAMT && isLate ? 1 << 16 : 0))
        status = sysConfig(&registers, plan.memory())
        if !status.isSuccess { return status }
        for package in 0..<platform.packages {
            registers = Registers(.sysKeyConfig)
            let processor = LogicalProcessorID(UInt32(package * platform.logicalProcessorsPerPackage))
            status = seamcall(&registers, on: processor)
            if !status.isSuccess { return status }
        }
        // A host of some TiB would take a million calls of 4 MiB each.
        for tdmr in plan.tdmrs {
            repeat {
                registers = Registers(.sysTdmrInit, rcx: tdmr.base)
                status = sysTdmrInit(&registers, chunk: 1 << 30)
                if !status.isSuccess { return status }
            } while registers.rdx != tdmr.end
        }
        return .success
    }

    /// Memory that can become private after `bringUp()`: the TDMRs without their reserved areas, ascending.
    public var usableMemory: [HostPhysicalRange] {
        system.withLock { $0.tdmrs }.flatMap(\.available).map { part in
            HostPhysicalRange(
                start: HostPhysicalAddress(part.lowerBound), size: ByteCount(part.upperBound - part.lowerBound))
        }
    }
}

/// How a host lays TDMRs and PAMT areas over convertible memory.
struct BootPlan {
    struct Region {
        var base: UInt64
        var end: UInt64
        var pamt: UInt64
        var reserved: UInt64
    }

    static let listAddress: UInt64 = 0
    var tdmrs: [Region] = []
    let dynamicPAMT: Bool

    /// When the last convertible region has room for all PAMT areas, it holds them and the others become TDMRs; else
    /// every region holds its own at its end, marked as reserved.
    init(platform: PlatformDescription, dynamicPAMT: Bool) {
        self.dynamicPAMT = dynamicPAMT
        let gibibyte: UInt64 = 1 << 30
        let regions = platform.convertibleMemory.map { range -> (base: UInt64, end: UInt64) in
            let base = (range.start.rawValue + gibibyte - 1) & ~(gibibyte - 1)
            return (base, max(base, range.end.rawValue & ~(gibibyte - 1)))
        }
        let last = platform.convertibleMemory.last!
        let others = regions.dropLast().filter { $0.end > $0.base }
        let needed = others.reduce(UInt64(0)) { $0 + overhead($1.end - $1.base) }
        if !others.isEmpty, needed <= last.size.rawValue {
            var pamt = last.start.rawValue
            for region in others {
                tdmrs.append(Region(base: region.base, end: region.end, pamt: pamt, reserved: 0))
                pamt += overhead(region.end - region.base)
            }
        } else {
            for region in regions where region.end > region.base {
                let size = overhead(region.end - region.base)
                tdmrs.append(
                    Region(base: region.base, end: region.end, pamt: region.end - size, reserved: size))
            }
        }
    }

    private func area(_ size: UInt64, _ code: Int) -> UInt64 {
        TDMRChecks.pamtSize(of: size, code, usesDynamicPAMT: dynamicPAMT)
    }
    private func overhead(_ size: UInt64) -> UInt64 { area(size, 2) + area(size, 1) + area(size, 0) }

    /// The pointer list at 0 and one TDMR_INFO in each 512 bytes from 4 KiB on.
    func memory() -> SimulatedMemory {
        let memory = SimulatedMemory()
        func put(_ value: UInt64, at address: UInt64) {
            withUnsafeBytes(of: value.littleEndian) {
                memory.write(HostPhysicalAddress(address), key: KeyID(0), from: $0)
            }
        }
        for (index, tdmr) in tdmrs.enumerated() {
            let info = 4096 + 512 * UInt64(index)
            let size = tdmr.end - tdmr.base
            put(info, at: Self.listAddress + 8 * UInt64(index))
            let words = [
                tdmr.base, size, tdmr.pamt, area(size, 2), tdmr.pamt + area(size, 2), area(size, 1),
                tdmr.pamt + area(size, 2) + area(size, 1), area(size, 0),
                tdmr.reserved == 0 ? 0 : size - tdmr.reserved, tdmr.reserved,
            ]
            for (place, word) in words.enumerated() { put(word, at: info + 8 * UInt64(place)) }
        }
        return memory
    }
}
