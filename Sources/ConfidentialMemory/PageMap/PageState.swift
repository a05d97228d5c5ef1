public import MemoryUnits

/// What a guest page is: settled on one side, or on its way to the other.
///
/// All memory of a VM starts shared, as KVM's attributes do (reference: kvm.md §3).
@frozen
public enum PageState: UInt8, Hashable, Sendable, CaseIterable {
    /// The host may read and write the page.
    case shared = 0
    /// Only the guest may use the page.
    case `private` = 1
    /// Leaving the shared side; the kernel may already treat it as private.
    case convertingToPrivate = 2
    /// Leaving the private side; the kernel may still treat it as private.
    case convertingToShared = 3

    /// True unless the page is settled on the shared side: a page in transition counts as private for every safety
    /// question (who may map it, may it be released, may the host's kernel be replaced).
    @inlinable public var countsAsPrivate: Bool { self != .shared }

    /// True while a conversion has not settled.
    @inlinable public var isConverting: Bool { rawValue >= 2 }
}

/// A run of pages in one state.
@frozen
public struct PageRun: Hashable, Sendable {
    public var frames: Range<GuestFrameNumber>
    public var state: PageState

    @inlinable
    public init(_ frames: Range<GuestFrameNumber>, _ state: PageState) {
        self.frames = frames
        self.state = state
    }
}

/// How many pages are in each state.
@frozen
public struct PageStateCounts: Hashable, Sendable {
    @usableFromInline var pages: SIMD4<UInt64>

    /// - Parameter pages: by state, in the order of `PageState`.
    @inlinable public init(_ pages: SIMD4<UInt64> = .zero) { self.pages = pages }

    @inlinable
    public subscript(state: PageState) -> PageCount { PageCount(pages[Int(state.rawValue)]) }

    /// Pages in transition in either direction.
    @inlinable public var converting: PageCount { PageCount(pages[2] + pages[3]) }
    @inlinable public var total: PageCount { PageCount(pages.wrappedSum()) }
}

extension GuestPhysicalRange {
    /// The pages of a page-aligned range.
    @inlinable
    public var frames: Range<GuestFrameNumber> {
        precondition(isPageAligned, "a range of pages begins and ends on a page border")
        return start.frame..<end.frame
    }
}

extension Range<GuestFrameNumber> {
    /// The bytes of the pages.
    @inlinable
    public var bytes: GuestPhysicalRange {
        GuestPhysicalRange(start: lowerBound.address, size: pageCount.bytes)
    }

    @inlinable public var pageCount: PageCount { upperBound - lowerBound }
}
