extension Backend {
    /// True wherever the TDX module is the software one.
    public var isEmulated: Bool { self != .tdx }
}
