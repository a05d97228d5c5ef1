import Terms
import Testing

@Suite struct `A checked term` {
    @Test(arguments: [
        (ReleaseRate.limit, "1048576 to 1099511627776 bytes a second"),
        (ReleaseChunk.limit, "a multiple of 2097152 from 2097152 to 67108864"),
        (EndDeadline.limit, "1000 to 604800000 ms"),
        (CreationWait.limit, "1 to 604800000 ms"), (ChangeWait.limit, "0 to 60000"), (ChangeNumber.limit, "at least 0"),
        (ConversionCount.limit, "0 to 1000"), (VCPUCount.limit, "1 to 1024"),
    ])
    func `states its limit in the words that clients know`(_ limit: String, _ words: String) {
        #expect(limit == words)
    }

    @Test func `is made of every value in its range, and of no other`() {
        for value in [1, 2, 1023, 1024] as [Int64] { #expect(VCPUCount(rawValue: value)?.rawValue == value) }
        for value in [.min, -1, 0, 1025, .max] as [Int64] {
            #expect(VCPUCount.violation(of: value) == Violation(String(value), limit: "1 to 1024"))
            #expect(VCPUCount(rawValue: value) == nil)
        }
        #expect(throws: Violation.self) { try VCPUCount(checking: UInt64.max) }
    }

    @Test func `has one form, however it was written`() throws {
        let digest = try Digest48(checking: String(repeating: "aB", count: 48))
        #expect(digest.rawValue == String(repeating: "ab", count: 48))
        #expect(digest.bytes == [UInt8](repeating: 0xab, count: 48))
        #expect(try NUMANodes(checking: [3, 0]) == NUMANodes(checking: [0, 3]))
    }

    @Test func `a choice is refused with all that there are`() {
        let violation = #expect(throws: Violation.self) { try StopWait(checking: "long\u{1B}") }
        #expect(violation == Violation("long\u{FFFD}", limit: "one of proven, stopped"))
    }
}
