/// /proc/cpuinfo, of the first processor: the kernel shows the same flags and bugs for all.
public struct ProcessorInformation: Hashable, Sendable {
    public var vendor: String
    public var model: String
    /// Such as `avx2`.
    public var flags: Set<String>
    /// Errata that the kernel knows of, such as `spectre_v1`.
    public var bugs: Set<String>
    /// Processors listed, that is, online.
    public var count: Int

    public static func ofHost() throws(LinuxError) -> Self { Self(parsing: try TextFile.read("/proc/cpuinfo")) }

    /// Reads the text of /proc/cpuinfo. Missing lines leave their field empty.
    public init(parsing text: String) {
        vendor = ""
        model = ""
        flags = []
        bugs = []
        count = 0
        for line in text.split(separator: "\n") {
            let parts = line.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
            guard parts.count == 2 else { continue }
            let key = parts[0].trimmed
            let value = parts[1].trimmed
            switch key {
            case "processor": count += 1
            case "vendor_id" where count == 1: vendor = value
            case "model name" where count == 1: model = value
            case "flags" where count == 1: flags = Set(value.split(separator: " ").map { String($0) })
            case "bugs" where count == 1: bugs = Set(value.split(separator: " ").map { String($0) })
            default: break
            }
        }
    }
}

extension Substring {
    fileprivate var trimmed: String {
        var text = self
        while let first = text.first, first == " " || first == "\t" { text.removeFirst() }
        while let last = text.last, last == " " || last == "\t" { text.removeLast() }
        return String(text)
    }
}
