public import FirmwareImage
internal import Hashing
public import MemoryUnits

/// MRTD as the TDX module builds it: SHA-384 over a record for every page added and every chunk measured, in order.
/// Source: reference/tdx-module.md §8.1.
public struct LaunchMeasurement: Sendable {
    /// Bytes that one MR.EXTEND measures.
    public static let chunkSize = 256

    private var hash = SHA384()

    public init() {}

    /// MEM.PAGE.ADD of a page: its address enters, its contents do not.
    public mutating func add(_ page: GuestPhysicalAddress) {
        precondition(page.isPageAligned, "pages are added whole")
        record("MEM.PAGE.ADD", page)
    }

    /// MR.EXTEND of 256 bytes at an address that is a multiple of 256.
    public mutating func extend(_ address: GuestPhysicalAddress, contents: UnsafeRawBufferPointer) {
        precondition(contents.count == Self.chunkSize && address.rawValue % UInt64(Self.chunkSize) == 0)
        record("MR.EXTEND", address)
        hash.update(bufferPointer: contents)
    }

    /// What Linux does for each page of KVM_TDX_INIT_MEM_REGION: add, then extend by all 16 chunks where it is measured.
    public mutating func load(_ page: GuestPhysicalAddress, contents: UnsafeRawBufferPointer, measured: Bool) {
        precondition(contents.count == Int(pageSize))
        add(page)
        guard measured else { return }
        for offset in stride(from: 0, to: Int(pageSize), by: Self.chunkSize) {
            extend(
                page + ByteCount(UInt64(offset)),
                contents: UnsafeRawBufferPointer(rebasing: contents[offset..<offset + Self.chunkSize]))
        }
    }

    /// MRTD so far; MR.FINALIZE ends it like this.
    public var value: MeasurementRegister { MeasurementRegister(hash.finalize()) }

    /// MRTD of a TD that is loaded by this plan.
    public static func replaying(_ plan: LoadPlan) -> MeasurementRegister {
        var hash = SHA384()
        plan.replayMeasurement { hash.update(bufferPointer: $0) }
        return MeasurementRegister(hash.finalize())
    }

    /// 128 bytes: the name at 0, the address at 16, zeroes elsewhere.
    private mutating func record(_ name: StaticString, _ address: GuestPhysicalAddress) {
        withUnsafeTemporaryAllocation(byteCount: 128, alignment: 8) { bytes in
            bytes.initializeMemory(as: UInt8.self, repeating: 0)
            name.withUTF8Buffer { bytes.copyMemory(from: UnsafeRawBufferPointer($0)) }
            bytes.storeBytes(of: address.rawValue.littleEndian, toByteOffset: 16, as: UInt64.self)
            hash.update(bufferPointer: UnsafeRawBufferPointer(bytes))
        }
    }
}

/// A 48-byte measurement register, such as MRTD.
public struct MeasurementRegister: Hashable, Sendable, CustomStringConvertible {
    public static let byteCount = 48
    public let bytes: [UInt8]

    /// - Precondition: 48 bytes.
    public init(_ bytes: [UInt8]) {
        precondition(bytes.count == Self.byteCount, "a measurement register has 48 bytes")
        self.bytes = bytes
    }

    /// 96 lower-case hexadecimal digits.
    public var description: String {
        let digits = Array("0123456789abcdef".utf8)
        return String(
            decoding: bytes.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }, as: UTF8.self)
    }
}
