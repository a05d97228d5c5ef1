internal import FoundationEssentials
public import ServiceSupport

/// What tdxd asks of the launcher of holders: one message of the socket between them. The launcher trusts none of it: every option
/// comes from a list of values, and no path is among them.
public struct LaunchRequest: Hashable, Sendable {
    public enum Order: Hashable, Sendable {
        /// The holder of a TD.
        case serve(ServeOrder)
        /// What the host offers, printed into the pipe whose end comes with the message.
        case probe(TDXDConfiguration.BackendChoice)
        /// The self-test, printed in the same way.
        case selfTest(TDXDConfiguration.BackendChoice)
    }

    /// Chosen by tdxd, from 1, and never used twice: answers bear it.
    public var number: UInt64
    public var order: Order

    public init(number: UInt64, order: Order) {
        self.number = number
        self.order = order
    }

    /// Longest message of either side, in bytes.
    public static let limit = 4096
}

/// Why a message is not understood.
public struct LaunchFlaw: Error, Hashable, Sendable, CustomStringConvertible {
    public var field: String
    public var value: String
    /// What would have been right.
    public var limit: String

    public init(field: String, value: String, limit: String) {
        self.field = field
        self.value = value
        self.limit = limit
    }

    public var description: String { "\(field) is “\(value)” and must be \(limit)" }
}

extension LaunchRequest {
    private struct Wire: Codable {
        var number: UInt64
        var serve: ServeOrder?
        var probe: TDXDConfiguration.BackendChoice?
        var selftest: TDXDConfiguration.BackendChoice?
    }

    private struct Numbered: Decodable { var number: UInt64 }

    /// The message.
    public func encoded() -> [UInt8] {
        var wire = Wire(number: number)
        switch order {
        case .serve(let order): wire.serve = order
        case .probe(let backend): wire.probe = backend
        case .selfTest(let backend): wire.selftest = backend
        }
        return LaunchCoding.encode(wire)
    }

    /// The number of a message of which perhaps nothing else is understood, so that it can be refused; nil for none.
    public static func number(in message: [UInt8]) -> UInt64? {
        (try? JSONDecoder().decode(Numbered.self, from: Data(message)))?.number
    }

    /// - Throws: what is wrong, by field; nothing of such a request may be done.
    public init(decoding message: [UInt8]) throws(LaunchFlaw) {
        let wire = try LaunchCoding.decode(Wire.self, message)
        guard wire.number > 0 else { throw LaunchFlaw(field: "number", value: "0", limit: "1 or more") }
        var orders: [Order] = []
        if let serve = wire.serve { orders.append(.serve(try serve.checked())) }
        if let probe = wire.probe { orders.append(.probe(probe)) }
        if let selftest = wire.selftest { orders.append(.selfTest(selftest)) }
        guard orders.count == 1 else {
            throw LaunchFlaw(field: "order", value: "\(orders.count) of them", limit: "one of serve, probe, selftest")
        }
        self.init(number: wire.number, order: orders[0])
    }
}

/// JSON in one message.
enum LaunchCoding {
    static func encode(_ value: some Encodable) -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys]
        do { return Array(try encoder.encode(value)) } catch {
            preconditionFailure("a message of the launcher does not encode: \(error)")
        }
    }

    static func decode<Value: Decodable>(_ type: Value.Type, _ message: [UInt8]) throws(LaunchFlaw) -> Value {
        guard message.count <= LaunchRequest.limit else {
            throw LaunchFlaw(
                field: "message", value: "\(message.count) bytes", limit: "at most \(LaunchRequest.limit) bytes")
        }
        do { return try JSONDecoder().decode(type, from: Data(message)) } catch {
            throw LaunchFlaw(field: "message", value: "what was sent", limit: "as documented: \(error)")
        }
    }
}
