internal import ArgumentParser
internal import ControlInterface
internal import Glibc
internal import LinuxSystem
internal import Varlink

/// What an argument names TDs by: a name, a pattern with `*`, `?` or `[…]` (as in glob(7)), an id, or the first digits of
/// an id.
struct DomainPattern: Hashable, Sendable {
    /// Digits of an id that are enough to be taken for one.
    static let shortestID = 4

    let text: String

    /// Whether it may name several TDs.
    var isGlob: Bool { text.utf8.contains { "*?[".utf8.contains($0) } }

    /// Whether it can be the beginning of an id, which is 32 lower-case hexadecimal digits.
    var mayBeID: Bool {
        (Self.shortestID...32).contains(text.utf8.count) && text.allSatisfy { $0.isHexDigit && !$0.isUppercase }
    }

    /// - Throws: `ValidationError` for what is not a name, pattern or id.
    init(_ text: String) throws {
        let isAllowed = text.utf8.allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"): true
            default: "._-*?[]!^".utf8.contains(byte)
            }
        }
        guard isAllowed, (1...64).contains(text.utf8.count) else {
            throw ValidationError(
                "invalid TD “\(printable(text))”: a name has 1 to 64 of a-z 0-9 . _ -, a pattern * ? [ ] besides")
        }
        self.text = text
    }

    /// Those of the TDs that it names; a name that is exactly given comes before an id.
    func matches<Domain>(in domains: [Domain], name: (Domain) -> String, id: (Domain) -> String) -> [Domain] {
        if isGlob { return domains.filter { fnmatch(text, name($0), 0) == 0 } }
        let named = domains.filter { name($0) == text }
        guard named.isEmpty, mayBeID else { return named }
        return domains.filter { id($0).hasPrefix(text) }
    }
}

/// The arguments of a command that takes several TDs.
struct DomainSelection: ParsableArguments {
    @Argument(
        help: "Names of TDs, patterns such as 'web*', ids, or the first digits of an id.",
        completion: .custom { _, _, _ in DomainSelection.knownNames() }, transform: DomainPattern.init)
    var patterns: [DomainPattern] = []

    @Flag(name: [.customShort("a"), .long], help: "All TDs.")
    var all = false

    func validate() throws {
        guard all == patterns.isEmpty else {
            throw ValidationError(all ? "--all and TDs by name exclude each other" : "no TD is named; --all takes all")
        }
    }

    /// Whether exactly one TD was asked for, by its name or id: then the answer is one document and not a list.
    var isSingle: Bool { patterns.count == 1 && !patterns[0].isGlob && !all }

    /// The names of the TDs, each once, in natural order where a pattern or --all chose them.
    ///
    /// One name is not looked up: the call that follows finds whether the TD exists.
    /// - Throws: `noSuchDomain` for a pattern, an id or one of several names that no TD has; `usage` for the first digits
    ///   of more than one id.
    func names(_ context: Context, where filter: (TrustDomain) -> Bool = { _ in true }) throws(Failure) -> [String] {
        if isSingle, !patterns[0].mayBeID { return [patterns[0].text] }
        let domains = try context.domains()
        guard !all else { return domains.filter(filter).map(\.name) }
        var result: [String] = []
        for pattern in patterns {
            let found = pattern.matches(in: domains, name: \.name, id: \.id)
            if found.count > 1, !pattern.isGlob {
                throw Failure(
                    status: .usage, code: "ambiguous_id",
                    message: "the id “\(pattern.text)” is ambiguous: \(found.count) TDs have ids that begin with it",
                    hint: "give more of its digits, or the TD's name")
            }
            if found.isEmpty, !pattern.isGlob, isSingle { return [pattern.text] }
            guard !found.isEmpty else {
                throw Failure(
                    status: .noSuchDomain, code: ControlError.noSuchDomain(name: pattern.text).reply(on: .manager).name,
                    message: pattern.isGlob
                        ? "no TD matches “\(pattern.text)”" : "there is no TD named “\(pattern.text)”",
                    hint: "“tdxctl list” shows which TDs there are")
            }
            for domain in found where !result.contains(domain.name) { result.append(domain.name) }
        }
        return result
    }

    /// For completion in a shell: nothing where tdxd does not answer at once.
    static func knownNames() -> [String] {
        let socket = getenv("TDXD_SOCKET").map { String(cString: $0) } ?? GlobalOptions.standardSocket
        guard let client = try? VarlinkClient.connect(socket, timeout: .seconds(1)),
            let reply = try? client.call(
                ManagerInterface.List.method, as: ManagerInterface.List.Reply.self, timeout: .seconds(1))
        else { return [] }
        return reply.domains.map(\.name).sorted(by: precedesNaturally)
    }
}

extension Context {
    /// All TDs, in natural order of their names.
    func domains() throws(Failure) -> [TrustDomain] {
        try withManager { client throws(VarlinkClientError) in
            try client.call(ManagerInterface.List.method, as: ManagerInterface.List.Reply.self).domains
        }.sorted { precedesNaturally($0.name, $1.name) }
    }

    /// Runs `body` for each TD; one that fails does not keep the others from their turn, and its failure is reported.
    /// - Returns: the first status that is not ok.
    func forEach(
        _ names: [String], _ body: (String) throws(Failure) -> ExitStatus
    ) -> ExitStatus {
        var status = ExitStatus.ok
        for name in names {
            let own: ExitStatus
            do throws(Failure) { own = try body(name) } catch {
                tell(error)
                own = error.status
            }
            if status == .ok { status = own }
        }
        return status
    }
}

/// The order of names in which n2 comes before n10: runs of digits count as numbers.
func precedesNaturally(_ a: String, _ b: String) -> Bool {
    var left = Array(a.utf8)[...]
    var right = Array(b.utf8)[...]
    func isDigit(_ byte: UInt8) -> Bool { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) }
    while let x = left.first, let y = right.first {
        guard isDigit(x), isDigit(y) else {
            if x != y { return x < y }
            left.removeFirst()
            right.removeFirst()
            continue
        }
        let one = left.prefix(while: isDigit)
        let two = right.prefix(while: isDigit)
        left = left.dropFirst(one.count)
        right = right.dropFirst(two.count)
        let significant = (one.drop { $0 == UInt8(ascii: "0") }, two.drop { $0 == UInt8(ascii: "0") })
        if significant.0.count != significant.1.count { return significant.0.count < significant.1.count }
        if !significant.0.elementsEqual(significant.1) { return significant.0.lexicographicallyPrecedes(significant.1) }
    }
    if left.isEmpty != right.isEmpty { return left.isEmpty }
    return a < b
}
