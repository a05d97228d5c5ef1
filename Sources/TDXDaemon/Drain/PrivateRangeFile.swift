internal import ControlInterface
internal import LinuxSystem
internal import MemoryUnits

/// The private ranges of one TD at one moment, in a sealed file that its holder wrote. They are checked before anything is
/// sent with them, and then read in pieces, so that they take no memory of tdxd's.
final class PrivateRangeFile: Sendable {
    /// Bytes that are read at once: about what one answer takes where every other page is private.
    private static let piece = 1 << 13

    let sequence: Int64
    let privateBytes: UInt64
    let convertingBytes: UInt64
    let count: Int
    private let file: SealedFile

    /// Reads the file through once.
    /// - Parameter memory: of the TD, in bytes: its ranges cannot be more.
    /// - Throws: what is wrong with the file, in words.
    init(_ file: SealedFile, sequence: Int64, memory: UInt64) throws(PrivateRangeFlaw) {
        self.file = file
        self.sequence = sequence
        var cursor = Cursor(file)
        var sums: (isPrivate: UInt64, isConverting: UInt64) = (0, 0)
        var count = 0
        while let run = try cursor.next() {
            if run.attribute == .private {
                sums.isPrivate = sums.isPrivate.addingSaturated(run.bytes)
            } else {
                sums.isConverting = sums.isConverting.addingSaturated(run.bytes)
            }
            count += 1
            guard sums.isPrivate.addingSaturated(sums.isConverting) <= memory else {
                throw PrivateRangeFlaw(description: "ranges of more than the \(memory) bytes of the TD")
            }
        }
        privateBytes = sums.isPrivate
        convertingBytes = sums.isConverting
        self.count = count
    }

    /// Where a reader is.
    struct Cursor {
        private let file: SealedFile
        private var decoder = PrivateRangeDecoder()
        private var bytes: [UInt8] = []
        private var position = 0
        private var offset = ByteCount.zero

        fileprivate init(_ file: SealedFile) { self.file = file }

        /// The next range; nil after the last.
        /// - Throws: bytes that are no ranges, or that the file is closed.
        mutating func next() throws(PrivateRangeFlaw) -> MemoryRun? {
            if let run = try decoder.next(bytes, &position) { return run }
            // What is left is the beginning of a range that goes on in the next piece.
            let rest = bytes[position...]
            let more: [UInt8]
            do throws(LinuxError) { more = try file.read(count: piece, at: offset) } catch {
                throw PrivateRangeFlaw(description: "\(error)")
            }
            guard !more.isEmpty else {
                guard rest.isEmpty else { throw PrivateRangeFlaw(description: "the last range has no end") }
                return nil
            }
            offset += ByteCount(UInt64(more.count))
            bytes = Array(rest) + more
            position = 0
            return try decoder.next(bytes, &position)
        }
    }

    var cursor: Cursor { Cursor(file) }
}
