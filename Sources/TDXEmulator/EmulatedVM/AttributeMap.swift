internal import MemoryUnits

/// KVM_MEMORY_ATTRIBUTE_PRIVATE per guest page; all memory starts shared. Not thread-safe: slots_lock orders changes.
///
/// Cost: nothing per GiB that is wholly shared, one entry per GiB that is wholly private, 32 KiB per mixed GiB.
struct AttributeMap {
    private enum Block {
        case allPrivate
        case mixed([UInt64], privatePages: Int)
    }

    private static let pagesPerBlock = 1 << 18
    /// Key: guest frame >> 18. Absent: wholly shared.
    private var blocks: [UInt64: Block] = [:]

    func isPrivate(_ address: GuestPhysicalAddress) -> Bool {
        let frame = address.frame.rawValue
        switch blocks[frame >> 18] {
        case nil: return false
        case .allPrivate: return true
        case .mixed(let bits, _):
            let page = Int(frame & 0x3_FFFF)
            return bits[page / 64] & 1 << UInt64(page % 64) != 0
        }
    }

    /// Whether every page of the range has the given attribute.
    func isUniform(_ range: GuestPhysicalRange, isPrivate: Bool) -> Bool {
        Self.pieces(of: range).allSatisfy { piece in
            switch blocks[piece.block] {
            case nil: !isPrivate
            case .allPrivate: isPrivate
            case .mixed(let bits, _):
                Self.words(of: piece.pages).allSatisfy { bits[$0.index] & $0.mask == (isPrivate ? $0.mask : 0) }
            }
        }
    }

    mutating func set(_ range: GuestPhysicalRange, isPrivate: Bool) {
        for piece in Self.pieces(of: range) {
            if piece.pages.count == Self.pagesPerBlock {
                blocks[piece.block] = isPrivate ? .allPrivate : nil
                continue
            }
            var bits: [UInt64]
            var count: Int
            // Taken out of the dictionary before it is changed, so that the array is not copied.
            switch blocks.removeValue(forKey: piece.block) {
            case nil: (bits, count) = ([UInt64](repeating: 0, count: Self.pagesPerBlock / 64), 0)
            case .allPrivate:
                (bits, count) = ([UInt64](repeating: .max, count: Self.pagesPerBlock / 64), Self.pagesPerBlock)
            case .mixed(let old, let pages): (bits, count) = (old, pages)
            }
            for word in Self.words(of: piece.pages) {
                let before = bits[word.index]
                let after = isPrivate ? before | word.mask : before & ~word.mask
                bits[word.index] = after
                count += after.nonzeroBitCount - before.nonzeroBitCount
            }
            blocks[piece.block] =
                switch count {
                case 0: nil
                case Self.pagesPerBlock: .allPrivate
                default: .mixed(bits, privatePages: count)
                }
        }
    }

    private static func pieces(
        of range: GuestPhysicalRange
    ) -> some Sequence<(block: UInt64, pages: Range<Int>)> {
        let first = range.start.frame.rawValue
        let end = first + range.size.pages.rawValue
        let blocks = range.isEmpty ? 0..<0 : first >> 18..<((end - 1) >> 18 + 1)
        return blocks.lazy.map { block in
            let start = block << 18
            let low = max(first, start) - start
            let high = min(end, start + UInt64(pagesPerBlock)) - start
            return (block, Int(low)..<Int(high))
        }
    }

    private static func words(of pages: Range<Int>) -> some Sequence<(index: Int, mask: UInt64)> {
        (pages.lowerBound / 64...(pages.upperBound - 1) / 64).lazy.map { index in
            let low = max(pages.lowerBound, index * 64) - index * 64
            let high = min(pages.upperBound, index * 64 + 64) - index * 64
            let mask = high - low == 64 ? UInt64.max : ((1 << UInt64(high - low)) - 1) << UInt64(low)
            return (index, mask)
        }
    }
}
