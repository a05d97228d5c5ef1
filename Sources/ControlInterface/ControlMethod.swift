/// A method of an interface: what it takes, what it returns, and its name on the wire.
public protocol ControlMethod: Sendable {
    associatedtype Parameters: Codable & Hashable & Sendable
    associatedtype Reply: Codable & Hashable & Sendable

    /// With the interface's name, such as `io.tdxd.Manager.List`.
    static var method: String { get }
    /// A client that asks for more replies than one gets them.
    static var streams: Bool { get }
}

extension KeyedDecodingContainer {
    /// A number in a range.
    /// - Throws: `DecodingError.dataCorrupted` for one outside of it.
    func decode<Number: FixedWidthInteger & Decodable>(
        _ type: Number.Type, forKey key: Key, in range: ClosedRange<Number>
    ) throws -> Number {
        let value = try decode(type, forKey: key)
        guard range.contains(value) else {
            throw DecodingError.dataCorruptedError(
                forKey: key, in: self,
                debugDescription: "is \(value); it must be \(range.lowerBound) to \(range.upperBound)")
        }
        return value
    }

    /// A number in a range, or nil where there is none.
    /// - Throws: `DecodingError.dataCorrupted` for one outside of it.
    func decodeIfPresent<Number: FixedWidthInteger & Decodable>(
        _ type: Number.Type, forKey key: Key, in range: ClosedRange<Number>
    ) throws -> Number? {
        guard contains(key), try !decodeNil(forKey: key) else { return nil }
        return try decode(type, forKey: key, in: range)
    }
}
