extension Backend {
    /// True wherever the TDX module is the software one.
    public var isEmulated: Bool { self != .tdx }

    /// The best backend first; `memfd` needs nothing and comes last.
    public static let preference: [Backend] = [.tdx, .softwareProtected, .guestMemfd, .memfd]

    /// Whether `auto` prefers the other backend to this one.
    public func isWeaker(than other: Backend) -> Bool {
        guard let own = Self.preference.firstIndex(of: self), let others = Self.preference.firstIndex(of: other) else {
            return false
        }
        return own > others
    }
}
