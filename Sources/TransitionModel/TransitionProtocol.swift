/// Which way a range of pages goes.
public enum TransitionDirection: String, Hashable, Sendable, CaseIterable {
    case toShared = "to-shared"
    case toPrivate = "to-private"
}

/// One step of a guest kernel that converts a range. A step over pages is done page by page, and a flush CPU by CPU:
/// anything may happen between two of these parts.
public enum TransitionStep: String, Hashable, Sendable, CaseIterable {
    /// The PRESENT bit of every alias mapping of the range is cleared: the range stays mapped at one place only.
    case removeAliases
    /// PRESENT is cleared in the range's own mapping.
    case clearPresent
    /// The encryption attribute is set or cleared in the range's own mapping.
    case changeAttribute
    /// Both with one write to each entry.
    case clearPresentAndChangeAttribute
    /// Every CPU's TLB loses every entry of the range.
    case flushTLBs
    /// Caches are written back. It changes no translation; it is counted nowhere else.
    case flushCaches
    /// MapGPA when the new attribute is private: the callback that Linux makes before the page tables change.
    case notifyBefore
    /// MapGPA when the new attribute is shared: the callback that Linux makes after the page tables changed.
    case notifyAfter
    /// MapGPA in either direction.
    case notify
    /// On the way to private: the guest accepts every page. Nothing on the way to shared.
    case accept
    /// PRESENT is set again in the range's own mapping.
    case setPresent
}

/// How the notification finds the guest-physical address of a page.
public enum AddressTranslation: String, Hashable, Sendable, CaseIterable {
    /// A table walk that stops at an entry without PRESENT.
    case walkPresent = "walk-present"
    /// A table walk that reads the address of an entry whether or not PRESENT is set.
    case walkAnyway = "walk-anyway"
}

/// Where the range is mapped, which decides whether a translation needs the page tables at all.
public enum AddressKind: String, Hashable, Sendable, CaseIterable {
    /// In the linear map: the guest-physical address is arithmetic.
    case linear
    /// In a vmalloc-like area: only the page tables know it.
    case vmalloc
}

/// An order of steps by which a guest converts pages between private and shared, as a value that can be explored.
public struct TransitionProtocol: Hashable, Sendable {
    public var name: String
    public var summary: String
    public var steps: [TransitionStep]
    public var translation: AddressTranslation

    public init(name: String, summary: String, steps: [TransitionStep], translation: AddressTranslation = .walkAnyway) {
        self.name = name
        self.summary = summary
        self.steps = steps
        self.translation = translation
    }

    /// The seven steps: nothing of the range can be reached while attribute and host disagree. Each change of the page
    /// tables is followed by its own flush.
    public static let presentClearing = TransitionProtocol(
        name: "present-clearing",
        summary: "clear PRESENT, flush, change the attribute, notify the host, set PRESENT; a flush after each change",
        steps: [
            .removeAliases, .clearPresent, .flushTLBs, .flushCaches, .changeAttribute, .flushTLBs, .notify, .accept,
            .setPresent, .flushTLBs,
        ])

    /// The same with one write and one flush: the attribute changes together with clearing PRESENT, and an entry that
    /// becomes present needs no flush.
    public static let presentClearingMerged = TransitionProtocol(
        name: "present-clearing-merged",
        summary: "change the attribute while clearing PRESENT, flush once, notify the host, set PRESENT",
        steps: [
            .removeAliases, .clearPresentAndChangeAttribute, .flushTLBs, .flushCaches, .notify, .accept, .setPresent,
        ])

    /// The older order: the range stays present while attribute and host disagree.
    public static let alwaysPresent = TransitionProtocol(
        name: "always-present",
        summary: "notify the host before or after the attribute changes; the range stays present throughout",
        steps: [
            .removeAliases, .flushTLBs, .flushCaches, .notifyBefore, .accept, .changeAttribute, .flushTLBs,
            .notifyAfter,
        ])

    /// The seven steps with a notification that cannot translate an address whose PRESENT bit is clear.
    public static let presentClearingWithPlainWalk = TransitionProtocol(
        name: "present-clearing-plain-walk",
        summary: "the seven steps, but the notification's table walk stops where PRESENT is clear",
        steps: presentClearing.steps, translation: .walkPresent)

    /// Every protocol that has a name, in the order in which they are shown.
    public static let all: [TransitionProtocol] = [
        presentClearing, presentClearingMerged, alwaysPresent, presentClearingWithPlainWalk,
    ]
}
