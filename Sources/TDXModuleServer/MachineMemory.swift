internal import LinuxSystem
public import MemoryUnits
internal import Synchronization
public import TDXModule

/// The physical memory of a QEMU machine of type q35, as the module's process has it mapped: the files of its
/// `memory-backend-file` objects, in the order of its NUMA nodes. The machine has them from address 0 up to the hole below
/// 4 GiB, and what is left from 4 GiB on.
///
/// Addresses outside are open bus: reads give ones, writes vanish, and both are counted.
public final class MachineMemory: PhysicalMemory {
    /// A file's part of the memory, by its place in the row of all files.
    private struct Piece: Sendable {
        let start: UInt64
        let mapping: FileMapping
    }

    private let pieces: [Piece]
    /// All files together.
    public let size: ByteCount
    /// Where the hole below 4 GiB begins.
    public let lowEnd: HostPhysicalAddress
    /// Learns of each page that the module or the guest changes.
    public let ledger = PageLedger()
    private let outside = Atomic<UInt64>(0)

    static let highStart: UInt64 = 4 << 30

    /// Maps the whole pages of each file.
    /// - Parameter lowLimit: QEMU's `max-ram-below-4g`, at most 4 GiB.
    /// - Throws: `ServerError` for a file that cannot be opened or has less than a page.
    public init(files: [String], lowLimit: ByteCount) throws(ServerError) {
        var pieces: [Piece] = []
        var size: UInt64 = 0
        for path in files {
            let mapping = try Self.map(path)
            pieces.append(Piece(start: size, mapping: mapping))
            size += mapping.size.rawValue
        }
        guard size > 0 else { throw ServerError("no file of memory is named") }
        self.pieces = pieces
        self.size = ByteCount(size)
        lowEnd = HostPhysicalAddress(min(size, lowLimit.rawValue))
    }

    private static func map(_ path: String) throws(ServerError) -> FileMapping {
        do throws(LinuxError) {
            let file = try OwnedDescriptor.open(path: path, .readWrite)
            let bytes = try file.status().size
            let pages = ByteCount(bytes.rawValue & ~(pageSize - 1))
            return try FileMapping(descriptor: file.rawValue, size: pages)
        } catch { throw ServerError("\(path): \(error)") }
    }

    /// Ranges of memory, ascending: one, or two with the hole between them.
    public var ranges: [HostPhysicalRange] {
        let low = HostPhysicalRange(start: HostPhysicalAddress(0), size: ByteCount(lowEnd.rawValue))
        guard size.rawValue > lowEnd.rawValue else { return [low] }
        return [
            low,
            HostPhysicalRange(
                start: HostPhysicalAddress(Self.highStart), size: size - ByteCount(lowEnd.rawValue)),
        ]
    }

    /// Accesses to addresses without memory so far.
    public var accessesOutside: UInt64 { outside.load(ordering: .relaxed) }

    /// The byte at an address; nil where there is no memory for `count` bytes. They never cross a 4 KiB page.
    public func pointer(_ address: HostPhysicalAddress, _ count: Int = 1) -> UnsafeMutableRawPointer? {
        let raw = address.rawValue
        let place: UInt64
        if raw < lowEnd.rawValue {
            place = raw
        } else if raw >= Self.highStart, raw - Self.highStart < size.rawValue - lowEnd.rawValue {
            place = raw - Self.highStart + lowEnd.rawValue
        } else {
            outside.wrappingAdd(1, ordering: .relaxed)
            return nil
        }
        // Few: one for each NUMA node.
        for piece in pieces where place >= piece.start && place - piece.start < piece.mapping.size.rawValue {
            let offset = place - piece.start
            guard UInt64(count) <= piece.mapping.size.rawValue - offset else { break }
            return piece.mapping.baseAddress + Int(offset)
        }
        outside.wrappingAdd(1, ordering: .relaxed)
        return nil
    }

    // MARK: PhysicalMemory. Key ids change nothing: the machine has no encryption.

    public func read(_ address: HostPhysicalAddress, key: KeyID, into buffer: UnsafeMutableRawBufferPointer) {
        guard let source = pointer(address, buffer.count) else {
            buffer.initializeMemory(as: UInt8.self, repeating: 0xFF)
            return
        }
        buffer.copyMemory(from: UnsafeRawBufferPointer(start: source, count: buffer.count))
    }

    public func write(_ address: HostPhysicalAddress, key: KeyID, from buffer: UnsafeRawBufferPointer) {
        guard let target = pointer(address, buffer.count), let source = buffer.baseAddress else { return }
        target.copyMemory(from: source, byteCount: buffer.count)
        ledger.changed(address, self)
    }

    public func zeroPage(_ page: HostPhysicalAddress, key: KeyID) {
        guard let target = pointer(page, Int(pageSize)) else { return }
        target.initializeMemory(as: UInt8.self, repeating: 0, count: Int(pageSize))
        ledger.changed(page, self)
    }

    public func copyPage(
        from source: HostPhysicalAddress, sourceKey: KeyID, to destination: HostPhysicalAddress, key: KeyID
    ) {
        guard let target = pointer(destination, Int(pageSize)) else { return }
        if let from = pointer(source, Int(pageSize)) {
            target.copyMemory(from: from, byteCount: Int(pageSize))
        } else {
            target.initializeMemory(as: UInt8.self, repeating: 0xFF, count: Int(pageSize))
        }
        ledger.changed(destination, self)
    }
}

/// Why the server cannot begin or go on, for people.
public struct ServerError: Error, Hashable, Sendable, CustomStringConvertible {
    public var description: String
    public init(_ description: String) { self.description = description }
}
