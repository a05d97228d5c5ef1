/// What everybody believes of the range's pages at one moment. Two CPUs, a few pages, two mappings of each.
struct MemoryState: Hashable {
    static let cpus = 2

    /// A page-table entry.
    struct Entry: Hashable {
        var isPresent: Bool
        var isPrivate: Bool
    }

    /// What the host, and for a private page the guest's acceptance, make of a page.
    enum Backing: Hashable {
        case shared
        /// Private at the host and not accepted by the guest: a private access raises #VE.
        case pending
        case accepted
    }

    enum Mapping: Int, Hashable, CaseIterable {
        case own, alias
        var text: String { self == .own ? "its own mapping" : "an alias mapping" }
    }

    /// By mapping, then page.
    var entries: [[Entry]]
    /// By CPU, mapping, page: the attribute that the CPU has cached; nil when it has nothing.
    var tlbs: [[[Bool?]]]
    var backing: [Backing]
    /// How many parts of the conversion are done.
    var done = 0

    init(pages: Int, direction: TransitionDirection) {
        let wasPrivate = direction == .toShared
        let entry = Entry(isPresent: true, isPrivate: wasPrivate)
        entries = Mapping.allCases.map { _ in Array(repeating: entry, count: pages) }
        // The second CPU begins with stale-to-be entries: it has read everything before.
        tlbs = (0..<Self.cpus).map { cpu in
            Mapping.allCases.map { _ in Array(repeating: cpu == 1 ? wasPrivate : nil, count: pages) }
        }
        backing = Array(repeating: wasPrivate ? .accepted : .shared, count: pages)
    }

    /// Why an access with this attribute goes wrong; nil when it reads memory.
    func mishap(page: Int, isPrivate: Bool) -> String? {
        switch (backing[page], isPrivate) {
        case (.shared, false), (.accepted, true): nil
        case (.shared, true):
            "a private access to a page that the host has made shared: an exit that cannot be resolved"
        case (.pending, true): "a private access to a page that was not accepted: #VE in the middle of a load"
        case (.pending, false), (.accepted, false):
            "a shared access to a page that the host holds private: an exit that cannot be resolved"
        }
    }
}
