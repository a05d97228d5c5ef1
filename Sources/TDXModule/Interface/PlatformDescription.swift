public import MemoryUnits

/// The number of a logical processor, 0 ..< `PlatformDescription.logicalProcessors`. The first
/// `logicalProcessorsPerPackage` of them form package 0, and so on.
@frozen
public struct LogicalProcessorID: RawRepresentable, Hashable, Comparable, Sendable {
    public var rawValue: UInt32
    @inlinable public init(rawValue: UInt32) { self.rawValue = rawValue }
    @inlinable public init(_ number: UInt32) { rawValue = number }
    @inlinable public static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }
}

/// A half-open range of host-physical bytes. It never wraps.
@frozen
public struct HostPhysicalRange: Hashable, Sendable {
    public var start: HostPhysicalAddress
    public var size: ByteCount

    /// - Precondition: `start + size` fits in 64 bits.
    @inlinable
    public init(start: HostPhysicalAddress, size: ByteCount) {
        precondition(start.rawValue <= UInt64.max - size.rawValue, "a host-physical range wraps")
        self.start = start
        self.size = size
    }

    /// The first address after the range.
    @inlinable public var end: HostPhysicalAddress { start + size }

    @inlinable public func contains(_ other: Self) -> Bool { start <= other.start && other.end <= end }
    @inlinable public func overlaps(_ other: Self) -> Bool { start < other.end && other.start < end }
}

/// Which behaviour of the public module sources is modelled.
@frozen
public enum ModuleVersion: String, Hashable, Sendable, CaseIterable {
    /// Release 1.5.01, the baseline of the reference.
    case v1_5_01 = "1.5.01"
    /// The late 1.5.x snapshots, where the reference marks a difference with [late].
    case late
}

/// What the software module believes about the machine under it.
public struct PlatformDescription: Hashable, Sendable {
    /// Processor packages, 1 … 8. Keys are configured and caches written back once for each.
    public var packages: Int
    /// Logical processors of each package, at least 1.
    public var logicalProcessorsPerPackage: Int
    /// Convertible memory regions (CMRs), ascending, at most 32: only memory inside them can become private.
    public var convertibleMemory: [HostPhysicalRange]
    /// Key ids for MKTME (IA32_MKTME_KEYID_PARTITIONING bits 31:0); private key ids begin after them.
    public var mktmeKeys: UInt16
    /// Private key ids (bits 63:32), at least 1: one of them becomes the module's global key.
    public var tdxKeys: UInt16
    /// Key-id bits of a physical address, right below bit 52: 1 … 15, enough for all key ids.
    public var keyIDBits: Int
    /// Which snapshot of the module is modelled.
    public var version: ModuleVersion
    /// The processor of all packages.
    public var processor = ProcessorModel.sapphireRapids

    /// A machine with `memory` bytes of TDX-convertible memory from 4 GiB on (rounded up to 1 GiB), followed by a
    /// region for the module's own metadata. Everything else has a default that suits tests and emulators.
    public init(
        memory: ByteCount = .gibibytes(4), packages: Int = 1, logicalProcessorsPerPackage: Int = 2,
        mktmeKeys: UInt16 = 31, tdxKeys: UInt16 = 32, keyIDBits: Int = 6, version: ModuleVersion = .v1_5_01
    ) {
        let gibibyte: UInt64 = 1 << 30
        let size = (memory.rawValue + gibibyte - 1) / gibibyte * gibibyte
        // 16 bytes for each 4 KiB, 2 MiB and 1 GiB, and some pages for tables that the host passes to the module.
        let overhead = size / 256 + size / 131_072 + size / 67_108_864 + (2 << 20)
        let base = HostPhysicalAddress(4 * gibibyte)
        self.init(
            convertibleMemory: [
                HostPhysicalRange(start: base, size: ByteCount(size)),
                HostPhysicalRange(
                    start: base + ByteCount(size), size: ByteCount((overhead + gibibyte - 1) / gibibyte * gibibyte)),
            ],
            packages: packages, logicalProcessorsPerPackage: logicalProcessorsPerPackage, mktmeKeys: mktmeKeys,
            tdxKeys: tdxKeys, keyIDBits: keyIDBits, version: version)
    }

    public init(
        convertibleMemory: [HostPhysicalRange], packages: Int = 1, logicalProcessorsPerPackage: Int = 2,
        mktmeKeys: UInt16 = 31, tdxKeys: UInt16 = 32, keyIDBits: Int = 6, version: ModuleVersion = .v1_5_01
    ) {
        self.convertibleMemory = convertibleMemory
        self.packages = packages
        self.logicalProcessorsPerPackage = logicalProcessorsPerPackage
        self.mktmeKeys = mktmeKeys
        self.tdxKeys = tdxKeys
        self.keyIDBits = keyIDBits
        self.version = version
    }

    public var logicalProcessors: Int { packages * logicalProcessorsPerPackage }
    /// The package that a logical processor belongs to.
    public func package(of processor: LogicalProcessorID) -> Int {
        Int(processor.rawValue) / logicalProcessorsPerPackage
    }
    /// The private key ids: `mktmeKeys + 1 … mktmeKeys + tdxKeys`.
    public var privateKeyIDs: ClosedRange<UInt16> { (mktmeKeys + 1)...(mktmeKeys + tdxKeys) }
}

/// Why a description makes no machine.
public enum PlatformError: Error, Hashable, Sendable {
    /// A field is outside its range: its name, its value, and the limit in words.
    case outOfRange(field: String, value: UInt64, limit: String)
    /// Convertible regions must ascend, not overlap, be 4 KiB-aligned and not empty; the index of the first bad one.
    case badConvertibleMemory(index: Int)
    /// The process has no address space for the module's metadata: bytes asked for, and errno.
    case noAddressSpace(bytes: ByteCount, errno: Int32)
}

extension PlatformDescription {
    /// Checks every field.
    public func validate() throws(PlatformError) {
        func require(_ ok: Bool, _ field: String, _ value: UInt64, _ limit: String) throws(PlatformError) {
            if !ok { throw .outOfRange(field: field, value: value, limit: limit) }
        }
        try require((1...8).contains(packages), "packages", UInt64(clamping: packages), "1 … 8")
        try require(
            (1...4096).contains(logicalProcessorsPerPackage), "logicalProcessorsPerPackage",
            UInt64(clamping: logicalProcessorsPerPackage), "1 … 4096")
        try require(tdxKeys >= 1, "tdxKeys", UInt64(tdxKeys), "at least 1")
        let last = UInt64(mktmeKeys) + UInt64(tdxKeys)
        try require(last < 2048, "mktmeKeys + tdxKeys", last, "at most 2047")
        try require((1...15).contains(keyIDBits), "keyIDBits", UInt64(clamping: keyIDBits), "1 … 15")
        try require(last < 1 << UInt64(keyIDBits), "keyIDBits", UInt64(keyIDBits), "enough bits for key id \(last)")
        try require(
            (1...32).contains(convertibleMemory.count), "convertibleMemory.count", UInt64(convertibleMemory.count),
            "1 … 32")
        var behind: UInt64 = 0
        for (index, range) in convertibleMemory.enumerated() {
            guard range.start.rawValue >= behind, range.size > .zero, range.size.isPageAligned,
                range.start.rawValue % pageSize == 0
            else { throw .badConvertibleMemory(index: index) }
            behind = range.end.rawValue
        }
        let limit: UInt64 = 1 << UInt64(min(47, 52 - keyIDBits))
        try require(behind <= limit, "end of convertibleMemory", behind, "at most 0x\(String(limit, radix: 16))")
    }
}
