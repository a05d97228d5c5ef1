public import MemoryUnits

/// What a control group's memory is used for: its `memory.stat`, of both versions of control groups.
public struct MemoryStatistics: Hashable, Sendable {
    private let fields: [Substring: UInt64]

    /// - Parameter text: a name and a number in each line; others are left alone.
    public init(parsing text: String) {
        fields = text.split(separator: "\n").reduce(into: [:]) { fields, line in
            let words = line.split(separator: " ")
            if words.count == 2, let value = UInt64(words[1]) { fields[words[0]] = value }
        }
    }

    /// A field that counts bytes, such as `anon`; nil where the kernel does not show it.
    public subscript(name: String) -> ByteCount? { fields[name[...]].map { ByteCount($0) } }
}
