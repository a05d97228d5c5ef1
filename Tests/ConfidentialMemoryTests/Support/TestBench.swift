import FirmwareImage
import Glibc
import KVM
import LinuxSystem
import MemoryUnits
import Synchronization

@testable import ConfidentialMemory

/// A plain kernel with a journal in front of it, and what tests make with them.
struct TestBench {
    let kernel: PlainKernel
    let journal = CallJournal()
    let system: ObservedKernel
    let host: ObservedMemoryHost

    init(_ traits: PlainKernel.Traits = PlainKernel.Traits()) {
        kernel = PlainKernel(traits)
        system = ObservedKernel(kernel, journal)
        host = ObservedMemoryHost(PlainMemoryHost(kernel.ledger), journal)
    }

    var held: KernelLedger.Counts { kernel.ledger.held }

    /// Two regions with a hole between them: 24 MiB from 0 in shards of 16 and 8 MiB, and 4 MiB below 4 GiB.
    static let regions = [range(0, mebibytes: 24), range(0xFFC0_0000, mebibytes: 4)]
    static let policy = ShardPolicy(maximumPerRegion: 2, minimumSize: .mebibytes(16))

    /// Memory without a TD around it, for conversions.
    func makeMemory(
        _ sides: MemorySides = .apart, regions: [GuestPhysicalRange] = Self.regions
    ) throws -> (memory: GuestMemory, machine: ObservedMachine) {
        let machine = try system.createVirtualMachine(.tdx) as! ObservedMachine
        let memory = try GuestMemory.make(
            in: machine, host: host, plan: ShardPlan(regions: regions, policy: Self.policy), sides: sides,
            name: "bench")
        return (memory, machine)
    }

    /// A small TD without firmware.
    static func configuration(vcpus: Int = 2) throws -> TrustDomainConfiguration {
        var configuration = TrustDomainConfiguration(
            name: "td", layout: try GuestMemoryLayout(memory: .mebibytes(24)), vcpus: vcpus)
        configuration.shards = policy
        return configuration
    }
}

/// A range in mebibytes.
func range(_ start: UInt64, mebibytes: UInt64) -> GuestPhysicalRange {
    GuestPhysicalRange(start: GuestPhysicalAddress(start), size: .mebibytes(mebibytes))
}

/// A range in pages.
func range(_ start: UInt64, pages: UInt64) -> GuestPhysicalRange {
    GuestPhysicalRange(start: GuestPhysicalAddress(start), size: PageCount(pages).bytes)
}

extension GuestMemory {
    /// The guest's own view: makes every page of a range resident on the side that it is on, filled with `byte`.
    func fill(_ range: GuestPhysicalRange, with byte: UInt8) throws {
        for (shard, part) in parts(of: range)! {
            for page in part.frames.lowerBound.rawValue..<part.frames.upperBound.rawValue {
                let frame = GuestFrameNumber(page)
                let offset = frame.address - shard.range.start
                let isPrivate = attributes.withLock { $0[frame] } == .private
                if isPrivate, sides == .apart {
                    let file = (shard.file as! ObservedFile).inner as! PlainFile
                    let bytes = [UInt8](repeating: byte, count: Int(pageSize))
                    try bytes.withUnsafeBytes { try file.write($0, at: offset) }
                } else {
                    (shard.mapping.baseAddress + Int(offset.rawValue)).initializeMemory(
                        as: UInt8.self, repeating: byte, count: Int(pageSize))
                }
            }
        }
    }

    /// The first byte that the guest finds in a page, on the side that it is on.
    func firstByte(_ address: GuestPhysicalAddress) throws -> UInt8 {
        let (shard, _) = parts(of: range(address.rawValue, pages: 1))![0]
        let offset = address - shard.range.start
        if sides == .apart, attributes.withLock({ $0[address.frame] }) == .private {
            return try ((shard.file as! ObservedFile).inner as! PlainFile).byte(at: offset)
        }
        return shard.mapping.baseAddress.load(fromByteOffset: Int(offset.rawValue), as: UInt8.self)
    }

    /// Where the map, the kernel and the files disagree; nil when they agree.
    func disagreement(with machine: PlainMachine) throws -> String? {
        let told = try FigureReader(try publishedCounts().duplicateDescriptor()).read()
        if told != counts().pages { return "\(String(describing: told)) pages are published, not \(counts().pages)" }
        for run in runs() {
            let range = run.frames.bytes
            if run.state.isConverting { return "\(range) is left \(run.state)" }
            guard sides == .apart else { continue }
            let isPrivate = run.state == .private
            if machine.attributes(of: range).contains(!isPrivate) {
                return "\(range) is \(run.state) in the map but not in the kernel"
            }
            let resident = try residency(of: range)
            let other = isPrivate ? resident.shared : resident.private
            if other > .zero { return "\(range) is \(run.state) and has \(other) resident on the other side" }
        }
        return nil
    }
}

/// Waits without taking the CPU from those that are waited for.
func wait(until isSo: () -> Bool) {
    while !isSo() { usleep(500) }
}
