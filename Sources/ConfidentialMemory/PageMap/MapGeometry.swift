/// Sizes of the map's levels. A node is 1 GiB of guest memory, a group 16 MiB, a leaf 2 MiB, a word 64 pages.
@usableFromInline
enum MapGeometry {
    @inlinable static var pagesPerLeaf: Int { 512 }
    @inlinable static var wordsPerLeaf: Int { 8 }
    @inlinable static var leavesPerNode: Int { 512 }
    @inlinable static var pagesPerNode: Int { 1 << 18 }
    @inlinable static var wordsPerNode: Int { 1 << 12 }
    /// What a flat node keeps counts of.
    @inlinable static var pagesPerGroup: Int { 1 << 12 }
    @inlinable static var wordsPerGroup: Int { 1 << 6 }
    @inlinable static var groupsPerNode: Int { 1 << 6 }
    /// 16 TiB.
    @inlinable static var maximumNodes: Int { 1 << 14 }

    /// The bits of the pages `first ... last` (0 … 63) of a word.
    @inlinable
    static func mask(_ first: Int, _ last: Int) -> UInt64 {
        (~0 &<< UInt64(truncatingIfNeeded: first)) & (~0 &>> UInt64(truncatingIfNeeded: 63 &- last))
    }
}
