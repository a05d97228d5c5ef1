public import MemoryUnits

/// Where a guest's memory lies, as on a PC: low RAM from 0, a hole below 4 GiB for devices, high RAM from 4 GiB, and
/// the firmware's flash ending at 4 GiB.
///
/// The split is that of QEMU's q35 machine, so that a TD is laid out (and its hand-off block reads) as under QEMU:
/// memory of less than 2.75 GiB (0xB0000000) is all low; from 2.75 GiB on, 2 GiB are low and the rest is high. The
/// device hole is thus at least 1.25 GiB, 256 MiB of it for PCI Express configuration space. There is no copy of the
/// firmware below 1 MiB: a TD starts in protected mode at the reset vector.
public struct GuestMemoryLayout: Hashable, Sendable {
    /// What a region is.
    public enum Kind: String, Hashable, Sendable {
        case lowRAM
        case firmware
        case highRAM

        public var isRAM: Bool { self != .firmware }
    }

    /// A run of guest memory of one kind; page aligned and never empty.
    public struct Region: Hashable, Sendable {
        public var kind: Kind
        public var range: GuestPhysicalRange
    }

    /// From this size on memory is split.
    public static var splitThreshold: ByteCount { ByteCount(0xb000_0000) }
    /// Low RAM of a guest whose memory is split.
    public static var splitLowSize: ByteCount { .gibibytes(2) }
    /// Where the firmware ends and high RAM begins.
    public static var highBase: GuestPhysicalAddress { GuestPhysicalAddress(4 << 30) }
    /// Bit 47 is the shared bit of a guest with 48-bit guest-physical addresses, the narrowest that TDX has.
    public static var addressLimit: GuestPhysicalAddress { GuestPhysicalAddress(1 << 47) }

    /// RAM, without the firmware's flash.
    public let memory: ByteCount
    /// In ascending order.
    public let regions: [Region]

    /// - Parameters:
    ///   - memory: RAM in bytes, whole pages; what does not fit below `addressLimit` is refused.
    ///   - firmware: size of the flash image; nil or zero for none. At most `TDVFImage.maximumSize`.
    public init(memory: ByteCount, firmware: ByteCount? = nil) throws(FirmwareError) {
        let highLimit = Self.addressLimit - Self.highBase
        guard memory > .zero, memory.isPageAligned, memory <= highLimit + Self.splitLowSize else {
            throw FirmwareError(
                .memorySize, field: "memory", value: "\(memory)",
                limit: "it must be a multiple of 4 KiB, at least 4 KiB and at most \(highLimit + Self.splitLowSize)")
        }
        let flash = firmware ?? .zero
        guard flash.isPageAligned, flash <= TDVFImage.maximumSize else {
            throw FirmwareError(
                .imageSize, field: "firmware size", value: "\(flash)",
                limit: "it must be a multiple of 4 KiB and at most \(TDVFImage.maximumSize)")
        }
        let low = memory < Self.splitThreshold ? memory : Self.splitLowSize
        let high = memory - low
        var regions = [
            Region(kind: .lowRAM, range: GuestPhysicalRange(start: GuestPhysicalAddress(0), size: low))
        ]
        if flash > .zero {
            let start = GuestPhysicalAddress(Self.highBase.rawValue - flash.rawValue)
            regions.append(Region(kind: .firmware, range: GuestPhysicalRange(start: start, size: flash)))
        }
        if high > .zero {
            regions.append(Region(kind: .highRAM, range: GuestPhysicalRange(start: Self.highBase, size: high)))
        }
        self.memory = memory
        self.regions = regions
    }

    /// RAM alone, in ascending order.
    public var ram: [GuestPhysicalRange] { regions.filter(\.kind.isRAM).map(\.range) }
    /// RAM and firmware together: what must be backed.
    public var backedSize: ByteCount { regions.reduce(.zero) { $0 + $1.range.size } }

    /// The one region that holds all of `range`; nil where part of it lies in a hole or in another region.
    public func region(containing range: GuestPhysicalRange) -> Region? {
        regions.first { $0.range.contains(range) }
    }
}
