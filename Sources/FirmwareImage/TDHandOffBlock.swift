public import MemoryUnits

/// The TD hand-off block (TD HOB): the list of EFI hand-off blocks by which a host describes its memory to TDVF.
///
/// It is a PHIT block, one resource descriptor for each run of RAM in ascending order, and an end marker, each 8-byte
/// aligned. RAM that was added before the TD ran is EFI_RESOURCE_SYSTEM_MEMORY (0), everything else is
/// EFI_RESOURCE_MEMORY_UNACCEPTED (7); both carry the attributes present, initialized and tested (7). Of the PHIT only
/// version and EfiEndOfHobList (the address after the end marker) are set. TDVF measures the list into RTMR 0, so it
/// matches QEMU's byte for byte, down to one descriptor for each prepared section even where two of them touch.
/// Sources: UEFI PI specification, volume 3, HOB code definitions; td-shim specification, TD HOB.
public struct TDHandOffBlock: Hashable, Sendable {
    /// A run of RAM as the list reports it.
    public struct MemoryRun: Hashable, Sendable {
        public var range: GuestPhysicalRange
        /// True where the pages were added before the TD ran; false where the guest must accept them.
        public var isAccepted: Bool

        public init(range: GuestPhysicalRange, isAccepted: Bool) {
            self.range = range
            self.isAccepted = isAccepted
        }
    }

    /// Where the list begins in guest memory.
    public let address: GuestPhysicalAddress
    /// What it reports, in ascending order and without gaps inside a region of RAM.
    public let memory: [MemoryRun]
    /// The list as the guest reads it.
    public let bytes: [UInt8]

    /// - Parameters:
    ///   - location: the TD_HOB section's memory; the list must fit in it.
    ///   - ram: RAM in ascending order, without overlaps.
    ///   - accepted: what is added before the TD runs. Each must lie inside one range of `ram`; they do not overlap.
    public init(
        location: GuestPhysicalRange, ram: [GuestPhysicalRange], accepted: [GuestPhysicalRange]
    ) throws(FirmwareError) {
        address = location.start
        memory = try Self.split(ram, at: accepted)
        bytes = try Self.encode(memory, at: location)
    }

    private static func split(
        _ ram: [GuestPhysicalRange], at accepted: [GuestPhysicalRange]
    ) throws(FirmwareError) -> [MemoryRun] {
        for range in accepted where !ram.contains(where: { $0.contains(range) }) {
            throw FirmwareError(
                .outsideMemory, field: "added memory", value: "\(range)", limit: "it must lie inside one range of RAM")
        }
        let ordered = accepted.sorted { $0.start < $1.start }
        var runs: [MemoryRun] = []
        for region in ram {
            var position = region.start
            for range in ordered where region.contains(range) {
                guard position <= range.start else {
                    throw FirmwareError(
                        .overlap, field: "added memory", value: "\(range)",
                        limit: "it must begin at or above \(position)")
                }
                if position < range.start {
                    let gap = GuestPhysicalRange(start: position, size: range.start - position)
                    runs.append(MemoryRun(range: gap, isAccepted: false))
                }
                runs.append(MemoryRun(range: range, isAccepted: true))
                position = range.end
            }
            if position < region.end {
                let rest = GuestPhysicalRange(start: position, size: region.end - position)
                runs.append(MemoryRun(range: rest, isAccepted: false))
            }
        }
        return runs
    }
}

extension TDHandOffBlock {
    private static let handOffType: UInt16 = 1
    private static let handOffSize = 56
    private static let handOffVersion: UInt32 = 9
    private static let resourceType: UInt16 = 3
    private static let resourceSize = 48
    private static let endType: UInt16 = 0xffff
    private static let endSize = 8
    private static let systemMemory: UInt32 = 0
    private static let unacceptedMemory: UInt32 = 7
    /// EFI_RESOURCE_ATTRIBUTE_PRESENT, _INITIALIZED and _TESTED.
    private static let memoryAttributes: UInt32 = 1 | 2 | 4

    private static func encode(
        _ memory: [MemoryRun], at location: GuestPhysicalRange
    ) throws(FirmwareError) -> [UInt8] {
        let size = handOffSize + memory.count * resourceSize + endSize
        guard UInt64(size) <= location.size.rawValue else {
            throw FirmwareError(
                .handOffBlockOverflow, field: "TD hand-off block",
                value: "\(size) B for \(memory.count) runs of memory",
                limit: "the TD_HOB section holds \(location.size)")
        }
        var bytes: [UInt8] = []
        bytes.reserveCapacity(size)
        appendHeader(to: &bytes, type: handOffType, length: handOffSize)
        bytes.append(littleEndian: handOffVersion)
        bytes.append(littleEndian: UInt32(0))  // BootMode: full configuration
        for _ in 0..<4 { bytes.append(littleEndian: UInt64(0)) }  // EfiMemoryTop … EfiFreeMemoryBottom: not used
        bytes.append(littleEndian: location.start.rawValue + UInt64(size))  // EfiEndOfHobList
        for run in memory {
            appendHeader(to: &bytes, type: resourceType, length: resourceSize)
            bytes.append(contentsOf: repeatElement(0, count: GUID.size))  // Owner: none
            bytes.append(littleEndian: run.isAccepted ? systemMemory : unacceptedMemory)
            bytes.append(littleEndian: memoryAttributes)
            bytes.append(littleEndian: run.range.start.rawValue)
            bytes.append(littleEndian: run.range.size.rawValue)
        }
        appendHeader(to: &bytes, type: endType, length: endSize)
        return bytes
    }

    /// EFI_HOB_GENERIC_HEADER: type, length of the whole block, reserved.
    private static func appendHeader(to bytes: inout [UInt8], type: UInt16, length: Int) {
        bytes.append(littleEndian: type)
        bytes.append(littleEndian: UInt16(length))
        bytes.append(littleEndian: UInt32(0))
    }
}
