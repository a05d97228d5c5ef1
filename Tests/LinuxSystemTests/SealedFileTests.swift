import Glibc
import LinuxSystem
import MemoryUnits
import SystemPackage
import Testing

@Suite struct SealedFileTests {
    private func sealed(_ pieces: [[UInt8]]) throws -> OwnedDescriptor {
        var builder = try SealedFileBuilder(name: "tdxd.test")
        for piece in pieces { try builder.append(piece) }
        return try builder.sealed()
    }

    @Test func `what was written is read, and nobody can change it any more`() throws {
        let file = try sealed([[1, 2, 3], [], [4, 5]])
        let number = file.rawValue
        #expect(pwrite(number, [9], 1, 0) == -1 && errno == EPERM)
        #expect(ftruncate(number, 0) == -1 && ftruncate(number, 100) == -1)
        #expect(mmap(nil, 1, PROT_READ | PROT_WRITE, MAP_SHARED, number, 0) == MAP_FAILED)
        let reader = try SealedFile(file)
        #expect(reader.size == ByteCount(5))
        #expect(try reader.read(count: 2, at: ByteCount(1)) == [2, 3])
        #expect(try reader.read(count: 100, at: ByteCount(3)) == [4, 5])
        #expect(try reader.read(count: 1, at: ByteCount(5)).isEmpty)
        reader.close()
        let refused = #expect(throws: LinuxError.self) { try reader.read(count: 1, at: .zero) }
        #expect(refused?.errno == .badFileDescriptor)
    }

    @Test func `a file that can still be changed is refused`() throws {
        let plain = try MemoryFile(name: "tdxd.test", size: ByteCount(4096))
        let refused = #expect(throws: LinuxError.self) { _ = try SealedFile(try plain.duplicateDescriptor()) }
        #expect(refused?.errno == .invalidArgument)
    }
}
