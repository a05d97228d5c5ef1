internal import LinuxSystem
internal import Logging
internal import MemoryUnits

/// One key of `tdxd.conf`: where it stands, what it takes, and where its value goes.
public struct Setting: Sendable {
    /// Why a text is not a value of a setting.
    struct ValueError: Error {
        /// What would have been right, such as “a size of 4 KiB to 1 MiB”.
        var expected: String
    }

    /// Where a value goes.
    typealias Place<Value> = any WritableKeyPath<TDXDConfiguration, Value> & Sendable

    public let section: String
    public let key: String
    /// What a value must be, with its range, such as “a size of 2 MiB to 64 MiB”.
    public let expected: String
    let read: @Sendable (inout TDXDConfiguration, String) throws(ValueError) -> Void
    let write: @Sendable (TDXDConfiguration) -> String

    /// The value in `configuration` as the file has it.
    public func text(in configuration: TDXDConfiguration) -> String { write(configuration) }

    init<Value: Sendable>(
        _ section: String, _ key: String, _ path: Place<Value>,
        expected: String, parse: @escaping @Sendable (String) -> Value?, print: @escaping @Sendable (Value) -> String
    ) {
        self.section = section
        self.key = key
        self.expected = expected
        read = { (configuration, text) throws(ValueError) in
            guard let value = parse(text) else { throw ValueError(expected: expected) }
            configuration[keyPath: path] = value
        }
        write = { print($0[keyPath: path]) }
    }
}

extension Setting {
    /// The longest path that a Unix socket can have: sun_path without its terminator.
    static let maximumSocketPath = 107

    static func path(
        _ section: String, _ key: String, _ path: Place<String>,
        limit: Int = 4095
    ) -> Self {
        Self(
            section, key, path, expected: "an absolute path of at most \(limit) bytes",
            parse: { isCleanPath($0, limit: limit) ? $0 : nil },
            // Blanks at the end stay only between quotes.
            print: { $0.hasSuffix(" ") || $0.hasSuffix("\t") ? "\"\($0)\"" : $0 })
    }

    /// An absolute path, or "none" for nil.
    static func pathOrNone(
        _ section: String, _ key: String, _ path: Place<String?>, limit: Int
    ) -> Self {
        Self(
            section, key, path, expected: "an absolute path of at most \(limit) bytes, or none",
            parse: { (text) -> String?? in
                if text == "none" { return .some(nil) }
                return isCleanPath(text, limit: limit) ? .some(text) : nil
            },
            print: { text in
                guard let text else { return "none" }
                return text.hasSuffix(" ") || text.hasSuffix("\t") ? "\"\(text)\"" : text
            })
    }

    /// Up to 16 absolute paths with colons between, or "any" for nil.
    static func pathsOrAny(
        _ section: String, _ key: String, _ path: Place<[String]?>
    ) -> Self {
        Self(
            section, key, path, expected: "at most 16 absolute paths of at most 4095 bytes with colons between, or any",
            parse: { (text) -> [String]?? in
                if text == "any" { return .some(nil) }
                let paths = text.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
                guard paths.count <= 16, paths.allSatisfy({ isCleanPath($0, limit: 4095) }) else { return nil }
                return .some(paths)
            }, print: { $0?.joined(separator: ":") ?? "any" })
    }

    private static func isCleanPath(_ text: String, limit: Int) -> Bool {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false).dropFirst()
        let isClean = parts.allSatisfy { !$0.isEmpty && $0 != "." && $0 != ".." }
        return text.hasPrefix("/") && isClean && text.utf8.count <= limit
    }

    static func mode(
        _ section: String, _ key: String, _ path: Place<UInt32>
    ) -> Self {
        Self(
            section, key, path, expected: "an octal mode from 0600 to 0777",
            parse: { text in
                guard (3...4).contains(text.utf8.count), let mode = UInt32(text, radix: 8) else { return nil }
                return mode & ~0o777 == 0 && mode & 0o600 == 0o600 ? mode : nil
            }, print: { "0" + String($0, radix: 8) })
    }

    static func choice<Value: RawRepresentable<String> & CaseIterable & Sendable>(
        _ section: String, _ key: String, _ path: Place<Value>
    ) -> Self {
        let names = Value.allCases.map(\.rawValue)
        return Self(
            section, key, path, expected: "one of " + names.joined(separator: ", "),
            parse: { Value(rawValue: $0) }, print: { $0.rawValue })
    }

    static func number<Value: FixedWidthInteger & Sendable>(
        _ section: String, _ key: String, _ path: Place<Value>,
        _ range: ClosedRange<Value>
    ) -> Self {
        Self(
            section, key, path, expected: "a whole number from \(range.lowerBound) to \(range.upperBound)",
            parse: { whole($0, in: range) }, print: { String($0) })
    }

    private static func whole<Value: FixedWidthInteger>(_ text: String, in range: ClosedRange<Value>) -> Value? {
        guard text.utf8.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }) else { return nil }
        return Value(text).flatMap { range.contains($0) ? $0 : nil }
    }

    /// A whole number, or "none" for nil.
    static func numberOrNone<Value: FixedWidthInteger & Sendable>(
        _ section: String, _ key: String, _ path: Place<Value?>, _ range: ClosedRange<Value>
    ) -> Self {
        Self(
            section, key, path,
            expected: "a whole number from \(range.lowerBound) to \(range.upperBound), or none",
            parse: { (text) -> Value?? in text == "none" ? .some(nil) : whole(text, in: range).map { .some($0) } },
            print: { $0.map { String($0) } ?? "none" })
    }

    static func size(
        _ section: String, _ key: String, _ path: Place<ByteCount>,
        _ range: ClosedRange<ByteCount>, multipleOf unit: ByteCount
    ) -> Self {
        Self(
            section, key, path,
            expected: "a size from \(range.lowerBound) to \(range.upperBound), a multiple of \(unit)",
            parse: { text in
                guard let size = try? ByteCount(parsing: text) else { return nil }
                return range.contains(size) && size.rawValue % unit.rawValue == 0 ? size : nil
            }, print: { String("\($0)".filter { $0 != " " }) })
    }

    /// Bytes a second; "none" stands for nil.
    static func pace(
        _ section: String, _ key: String, _ path: Place<ByteCount?>, _ range: ClosedRange<ByteCount>
    ) -> Self {
        Self(
            section, key, path, expected: "a size a second from \(range.lowerBound) to \(range.upperBound), or none",
            parse: { (text) -> ByteCount?? in
                if text == "none" { return .some(nil) }
                guard let size = try? ByteCount(parsing: text), range.contains(size) else { return nil }
                return .some(size)
            }, print: { $0.map { String("\($0)".filter { $0 != " " }) } ?? "none" })
    }

    static func duration(
        _ section: String, _ key: String, _ path: Place<Duration>,
        _ range: ClosedRange<Duration>
    ) -> Self {
        Self(
            section, key, path,
            expected:
                "a time from \(range.lowerBound.inWords) to \(range.upperBound.inWords), with unit ms, s, min or h",
            parse: { text in Duration(parsing: text).flatMap { range.contains($0) ? $0 : nil } },
            print: { $0.inWords })
    }
}
