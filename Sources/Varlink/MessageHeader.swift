/// Why an object is not a message.
struct HeaderFlaw: Error {
    var reason: String
}

/// A message's own header. Members that are not known are left alone; null stands for none.
protocol MessageHeader {
    /// - Parameter document: an object.
    init(_ document: JSONPart) throws(HeaderFlaw)
}

/// The parts of a call that decide where it goes.
struct CallHeader: MessageHeader {
    var method: String
    var more: Bool?
    var oneway: Bool?
    var upgrade: Bool?
    /// An object; nil where there is none.
    var parameters: JSONPart?

    init(_ document: JSONPart) throws(HeaderFlaw) {
        guard let method = try document.text("method") else {
            throw HeaderFlaw(reason: document["method"] == nil ? "“method” is missing" : "“method” is null")
        }
        self.method = method
        more = try document.flag("more")
        oneway = try document.flag("oneway")
        upgrade = try document.flag("upgrade")
        parameters = try document.parameters()
    }
}

/// The parts of a reply that classify it.
struct ReplyHeader: MessageHeader {
    var error: String?
    var continues: Bool?
    /// An object; nil where there is none.
    var parameters: JSONPart?

    init(_ document: JSONPart) throws(HeaderFlaw) {
        error = try document.text("error")
        continues = try document.flag("continues")
        parameters = try document.parameters()
    }
}

extension JSONPart {
    fileprivate func text(_ name: StaticString) throws(HeaderFlaw) -> String? {
        switch self[name] {
        case nil, .null: return nil
        case .string(let text): return text.value
        default: throw HeaderFlaw(reason: "“\(name)” is not a string")
        }
    }

    fileprivate func flag(_ name: StaticString) throws(HeaderFlaw) -> Bool? {
        switch self[name] {
        case nil, .null: return nil
        case .bool(let flag): return flag
        default: throw HeaderFlaw(reason: "“\(name)” is neither true nor false")
        }
    }

    fileprivate func parameters() throws(HeaderFlaw) -> JSONPart? {
        guard let parameters = self["parameters"], !parameters.isNull else { return nil }
        guard parameters.isObject else { throw HeaderFlaw(reason: "“parameters” is not an object") }
        return parameters
    }
}
