import LinuxSystem
import MemoryUnits
import SystemPackage
import Testing

struct MemoryFileTests {
    private let page = ByteCount(4096)

    @Test func `a fresh file holds nothing, and allocating a part makes exactly that part resident`() throws {
        let file = try MemoryFile(name: "test", size: .mebibytes(1))
        try expectResident(file, .zero)
        try file.allocate(offset: .kibibytes(64), length: .kibibytes(128))
        try expectResident(file, .kibibytes(128))
        try expectResident(file, .kibibytes(64), offset: .kibibytes(64), length: .kibibytes(64))
        try expectResident(file, .zero, offset: .zero, length: .kibibytes(64))
    }

    @Test func `punching frees the pages, and what is read next is zero`() throws {
        let file = try MemoryFile(name: "test", size: .kibibytes(64))
        let mapping = try file.map(length: .kibibytes(64))
        memset(mapping, 0xAB)
        try expectResident(file, .kibibytes(64))
        try file.punchHole(offset: page, length: page)
        try expectResident(file, .kibibytes(60))
        #expect(mapping.byte(at: 4095) == 0xAB)
        #expect(mapping.byte(at: 4096) == 0)
        #expect(mapping.byte(at: 8191) == 0)
        #expect(mapping.byte(at: 8192) == 0xAB)
    }

    @Test func `the size is sealed`() throws {
        let file = try MemoryFile(name: "test", size: page)
        let copy = try file.duplicateDescriptor()
        let bytes: [UInt8] = [1]
        #expect {
            try bytes.withUnsafeBytes { try copy.write($0, at: ByteCount(8192)) }
        } throws: {
            ($0 as? LinuxError)?.errno == .notPermitted
        }
        #expect(try copy.status().size == page)
    }

    @Test func `dropping the page tables keeps the file's pages and their content`() throws {
        let file = try MemoryFile(name: "test", size: .kibibytes(16))
        let mapping = try file.map(length: .kibibytes(16))
        memset(mapping, 0x5A)
        mapping.dropMappings(offset: .zero, length: .kibibytes(16))
        try expectResident(file, .kibibytes(16))
        #expect(mapping.byte(at: 12_345) == 0x5A)
    }

    @Test func `populating allocates without writing`() throws {
        let file = try MemoryFile(name: "test", size: .kibibytes(16))
        let mapping = try file.map(length: .kibibytes(16))
        try mapping.populate(offset: page, length: .kibibytes(8))
        try expectResident(file, .kibibytes(8))
        #expect(mapping.byte(at: 4096) == 0)
    }

    @Test func `a closed file refuses every call with EBADF, and its mapping still works`() throws {
        let file = try MemoryFile(name: "test", size: page)
        let mapping = try file.map(length: page)
        file.close()
        file.close()
        expectClosed { try file.allocate(offset: .zero, length: .kibibytes(4)) }
        expectClosed { try file.punchHole(offset: .zero, length: .kibibytes(4)) }
        expectClosed { _ = try file.residentBytes() }
        expectClosed { _ = try file.map(length: .kibibytes(4)) }
        expectClosed { _ = try file.duplicateDescriptor() }
        memset(mapping, 7)
        #expect(mapping.byte(at: 0) == 7)
    }

    @Test func `a duplicate keeps the memory after the file is closed, and is close-on-exec`() throws {
        let file = try MemoryFile(name: "test", size: .kibibytes(8))
        try file.allocate(offset: .zero, length: .kibibytes(8))
        let copy = try file.duplicateDescriptor()
        #expect(try copy.isCloseOnExec())
        file.close()
        let again = try MemoryFile(taking: copy)
        #expect(again.size == .kibibytes(8))
        #expect(again.identity == file.identity)
        try expectResident(again, .kibibytes(8))
    }

    @Test func `a size beyond a file's reach is refused`() {
        #expect { try MemoryFile(name: "test", size: ByteCount(1 << 63)) } throws: {
            ($0 as? LinuxError)?.errno == .fileTooLarge
        }
    }

    @Test func `a file is counted without cachestat as exactly as with it`() throws {
        let file = try MemoryFile(name: "test", size: .mebibytes(4))
        let copy = try file.duplicateDescriptor()
        func count(_ offset: ByteCount = .zero, _ length: ByteCount = .zero) throws -> ByteCount {
            try FileMemory.sharedMemoryBytes(descriptor: copy.rawValue, offset: offset, length: length)
        }
        #expect(try count() == .zero)
        // Made by fallocate(2) alone: charged to the file, and no data yet.
        try FileMemory.allocate(descriptor: copy.rawValue, offset: .mebibytes(1), length: .mebibytes(2))
        #expect(try count() == .mebibytes(2))
        try file.touch(offset: .mebibytes(1), length: .mebibytes(2))
        #expect(try count() == .mebibytes(2))
        #expect(try count(.zero, .mebibytes(1)) == .zero)
        #expect(try count(.kibibytes(1020), .kibibytes(8)) == page)
        #expect(try count(.mebibytes(2)) == .mebibytes(1))
        #expect(try count(.mebibytes(1), .mebibytes(64)) == .mebibytes(2))
        #expect(try count(.mebibytes(4), page) == .zero)
        // Every other page of 32.
        for index in stride(from: UInt64(0), to: 32, by: 2) {
            try file.punchHole(offset: .mebibytes(1) + ByteCount(index * 4096), length: page)
        }
        #expect(try count(.mebibytes(1), .kibibytes(128)) == .kibibytes(64))
        #expect(try count() == .mebibytes(2) - .kibibytes(64))
        try expectResident(file, try count())
        try file.punchHole(offset: .zero, length: .mebibytes(4))
        #expect(try count() == .zero)
        #expect(try count(page, .mebibytes(3)) == .zero)
    }

    @Test func `a large file is counted in pieces to the same sum`() throws {
        let file = try MemoryFile(name: "test", size: .gibibytes(3))
        // At the beginning, over the end of a piece, alone in a long hole, and at the end.
        let parts: [(offset: ByteCount, length: ByteCount)] = [
            (.zero, page), (.mebibytes(63), .mebibytes(2)), (.mebibytes(1_500), .kibibytes(12)),
            (.gibibytes(3) - page, page),
        ]
        for part in parts { try file.allocate(offset: part.offset, length: part.length) }
        let sum = parts.reduce(ByteCount.zero) { $0 + $1.length }
        try expectResident(file, sum)
        try expectResident(file, sum, length: .gibibytes(3))
        try expectResident(file, sum, length: .gibibytes(9))
        try expectResident(file, .mebibytes(1) + .kibibytes(12), offset: .mebibytes(64), length: .gibibytes(2))
        try expectResident(file, page, offset: .gibibytes(2))
        try expectResident(file, .zero, offset: .gibibytes(3), length: .gibibytes(1))
    }

    @Test func `only a file of shared memory is counted without cachestat`() throws {
        let other = try OwnedDescriptor.open(path: "/proc/self/exe", .readOnly)
        do throws(LinuxError) {
            _ = try FileMemory.residentBytes(descriptor: other.rawValue)
            #expect(FileMemory.hasCachestat)
        } catch {
            #expect(!FileMemory.hasCachestat && error.errno == Errno(named: "ENOSYS"))
        }
    }

    private func expectClosed(_ call: () throws -> Void) {
        #expect { try call() } throws: { ($0 as? LinuxError)?.errno == .badFileDescriptor }
    }

    private func memset(_ mapping: FileMapping, _ value: UInt8) {
        UnsafeMutableRawBufferPointer(start: mapping.baseAddress, count: Int(mapping.size.rawValue))
            .initializeMemory(as: UInt8.self, repeating: value)
    }
}

extension FileMapping {
    func byte(at offset: Int) -> UInt8 { baseAddress.load(fromByteOffset: offset, as: UInt8.self) }
}

/// Expects so many bytes to be present, where the kernel was built with cachestat(2).
private func expectResident(
    _ file: MemoryFile, _ bytes: ByteCount, offset: ByteCount = .zero, length: ByteCount = .zero,
    sourceLocation: SourceLocation = #_sourceLocation
) throws {
    do throws(LinuxError) {
        #expect(try file.residentBytes(offset: offset, length: length) == bytes, sourceLocation: sourceLocation)
    } catch  where error.errno == Errno(named: "ENOSYS") {
        return
    }
}
