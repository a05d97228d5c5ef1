import ControlInterface
import LinuxSystem
import Testing

@testable import TDXDaemon

@Suite struct PrivateRangeFileTests {
    private func file(_ bytes: [UInt8]) throws -> SealedFile {
        var builder = try SealedFileBuilder(name: "tdxd.test")
        try builder.append(bytes)
        return try SealedFile(try builder.sealed())
    }

    @Test func `ranges over many pieces are counted and read`() throws {
        var encoder = PrivateRangeEncoder()
        let count: UInt64 = 100_000
        // Three bytes each, so that pieces end within ranges.
        for index in 0..<count {
            encoder.add(start: 300 * index, pages: 1, index % 10 == 0 ? .convertingToShared : .private)
        }
        let ranges = try PrivateRangeFile(try file(encoder.take(isLast: true)), sequence: 7, memory: 1 << 40)
        #expect(ranges.count == Int(count) && ranges.sequence == 7)
        #expect(ranges.privateBytes == (count - count / 10) << 12 && ranges.convertingBytes == (count / 10) << 12)
        var cursor = ranges.cursor
        for index in 0..<count {
            let run = try #require(try cursor.next())
            guard run.gpa == (index * 300) << 12, run.bytes == 4096 else {
                Issue.record("range \(index) is \(run)")
                return
            }
        }
        #expect(try cursor.next() == nil)
        let none = try PrivateRangeFile(try file([]), sequence: 0, memory: 4096)
        #expect(none.count == 0 && none.privateBytes == 0)
    }

    @Test func `ranges of more memory than the TD has, and half a range, are refused`() throws {
        var encoder = PrivateRangeEncoder()
        encoder.add(start: 0, pages: 2, .private)
        let bytes = encoder.take(isLast: true)
        #expect(try PrivateRangeFile(try file(bytes), sequence: 0, memory: 8192).privateBytes == 8192)
        #expect(throws: PrivateRangeFlaw.self) {
            try PrivateRangeFile(try self.file(bytes), sequence: 0, memory: 4096)
        }
        #expect(throws: PrivateRangeFlaw.self) {
            try PrivateRangeFile(try self.file(bytes + [0x80]), sequence: 0, memory: 8192)
        }
    }
}
