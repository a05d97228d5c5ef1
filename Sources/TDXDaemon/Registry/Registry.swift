internal import ControlInterface
internal import DomainEnd
internal import MemoryUnits

/// Every TD of this daemon and the state it is in. Pure: methods decide and return what is to be done.
///
/// Where a TD is in its life, and what may happen to it, is its `EndMachine`'s to decide.
///
/// A failed TD keeps its place, its reason and its certificate until it is stopped. Once its end is proven, its owner may
/// also use its name again.
struct Registry: Sendable {
    struct Domain: Hashable, Sendable {
        var record: DomainRecord
        var end: EndMachine
        var reason: String?
        /// The holder's last answer to Describe.
        var lastKnown: TrustDomain?
        /// Of a failed or draining TD: what is known of its end so far.
        var certificate: TeardownCertificate?

        /// As clients see it.
        var state: TrustDomainState { TrustDomainState(end) }
    }

    /// Key: the TD's id.
    private(set) var domains: [String: Domain] = [:]
    /// Key: the TD's name; value: its id.
    private var idByName: [String: String] = [:]

    /// Failed TDs with a proven end that are remembered; beyond it the oldest goes. Unproven ones stay.
    static let rememberedFailures = 256

    subscript(id: String) -> Domain? { domains[id] }

    /// All TDs by name.
    var sorted: [Domain] { domains.values.sorted { $0.record.name < $1.record.name } }

    func find(name: TrustDomainName) throws(ControlError) -> Domain {
        guard let id = idByName[name.rawValue], let domain = domains[id] else {
            throw .noSuchDomain(name: name.rawValue)
        }
        return domain
    }

    /// Takes the name for a TD that is about to be built.
    ///
    /// A failed TD of the same owner gives its name up once its end is proven. One whose end is not proven, or another
    /// owner's, keeps it until its owner or an admin takes note of it.
    /// - Throws: `ControlError.nameTaken`, nothing changed.
    mutating func reserve(_ record: DomainRecord) throws(ControlError) {
        if let id = try givingUp(record.name, to: record.ownerUID) { forget(id: id) }
        insert(Domain(record: record, end: EndMachine(isAttached: record.isAttached)))
    }

    /// Whether `owner` could take the name now.
    /// - Throws: `ControlError.nameTaken`.
    func checkName(_ name: TrustDomainName, for owner: UInt32) throws(ControlError) {
        _ = try givingUp(name.rawValue, to: owner)
    }

    /// The failed TD that gives the name up; nil when the name is free.
    private func givingUp(_ name: String, to owner: UInt32) throws(ControlError) -> String? {
        guard let id = idByName[name], let present = domains[id] else { return nil }
        guard present.state == .failed, present.certificate?.complete == true, present.record.ownerUID == owner else {
            throw .nameTaken(name: name)
        }
        return id
    }

    func hasName(_ name: String) -> Bool { idByName[name] != nil }

    /// Enters a TD that was found at start.
    /// - Throws: `ControlError.nameTaken` when another one has the name, nothing changed.
    mutating func adopt(_ domain: Domain) throws(ControlError) {
        guard idByName[domain.record.name] == nil else { throw .nameTaken(name: domain.record.name) }
        insert(domain)
    }

    /// What happens to a TD.
    /// - Returns: what is to be done, in this order; nothing of a TD that is not there.
    mutating func handle(_ event: EndEvent, id: String) -> [EndAction] { domains[id]?.end.handle(event) ?? [] }

    /// The TD is listed with what is known of its end.
    mutating func list(id: String, certificate: TeardownCertificate?, reason: String?) {
        domains[id]?.certificate = certificate
        domains[id]?.reason = reason
        guard domains[id]?.end.stage == .failed else { return }
        forgetOldFailures()
    }

    /// Nothing is left of the TD's memory.
    mutating func empty(id: String) { domains[id]?.lastKnown?.empty() }

    /// The TD's record, which could not be read, is the one that tdxd has made from now on.
    mutating func setReadable(id: String) { domains[id]?.record.unreadable = nil }

    mutating func setReason(id: String, _ reason: String?) { domains[id]?.reason = reason }

    /// The holder finished the build.
    mutating func setBuilt(id: String, record: DomainRecord, figures: TrustDomain) {
        domains[id]?.record = record
        domains[id]?.lastKnown = figures
    }

    /// Figures from a live holder.
    mutating func refresh(id: String, figures: TrustDomain) {
        guard domains[id] != nil else { return }
        domains[id]?.lastKnown = figures
    }

    /// Changes the record, as it was written to disk.
    mutating func update(id: String, record: DomainRecord) {
        domains[id]?.record = record
        if record.isAttached { domains[id]?.end.attach() }
    }

    mutating func forget(id: String) {
        guard let domain = domains.removeValue(forKey: id) else { return }
        if idByName[domain.record.name] == id { idByName[domain.record.name] = nil }
    }

    /// Living TDs, which may still take memory.
    var living: [Domain] { domains.values.filter { $0.state == .building || $0.state == .runnable } }

    /// Memory that living TDs may still take beside what they have.
    /// - Parameters:
    ///   - backend: of those that are not built yet.
    ///   - holdings: what is known of each by its id; all of it is promised to one of which nothing is.
    func promised(expecting backend: Backend, _ holdings: [String: Holding]) -> ByteCount {
        MemoryDemand.sum(
            living.map { domain in
                MemoryDemand(guest: domain.record.guestMemory, on: domain.record.backend ?? backend)
                    .rest(after: holdings[domain.record.id] ?? .resident(.zero))
            })
    }

    func checkInvariants() {
        precondition(idByName.count == domains.count, "\(idByName.count) names for \(domains.count) TDs")
        for (name, id) in idByName {
            precondition(domains[id]?.record.name == name, "the name “\(name)” leads to another TD")
        }
    }

    private mutating func insert(_ domain: Domain) {
        domains[domain.record.id] = domain
        idByName[domain.record.name] = domain.record.id
        checkInvariants()
    }

    private mutating func forgetOldFailures() {
        let failures = domains.values.filter { $0.state == .failed && $0.certificate?.complete == true }
        guard failures.count > Self.rememberedFailures else { return }
        // Of the owner with the most, so that one user's failures do not push out another's.
        let most = Dictionary(grouping: failures, by: \.record.ownerUID).values.max { $0.count < $1.count }
        let oldest = most?.min { $0.record.createdAt < $1.record.createdAt }
        if let oldest { forget(id: oldest.record.id) }
    }
}

extension TrustDomainState {
    /// The state of a TD in this stage of its life, as clients see it.
    init(_ end: EndMachine) {
        self =
            switch end.stage {
            case .building: .building
            case .runnable: .runnable
            case .clearing, .failed: .failed
            case .held, .open, .quarantined: .draining
            case .halting, .asking, .releasing, .fetching, .leaving, .dying, .reading, .returning, .proving, .settling,
                .forgotten:
                end.isAnswered ? .draining : end.diedUnasked ? .failed : .stopping
            }
    }
}

extension TrustDomain {
    /// The figures of a TD that has no memory any more.
    mutating func empty() {
        privateBytes = 0
        sharedBytes = 0
        convertingBytes = 0
        residentBytes = 0
        residentPrivateBytes = 0
        residentSharedBytes = 0
    }
}

extension Registry.Domain {
    /// The TD as `List` and `Show` give it, from the last figures that are known.
    ///
    /// - Parameters:
    ///   - remark: why the figures are old, for a holder that does not answer.
    ///   - fallbackBackend: what a TD that is still being built is reported with.
    func report(remark: String? = nil, fallbackBackend: Backend) -> TrustDomain {
        let reasons = [reason, remark].compactMap { $0 }
        let joined = reasons.isEmpty ? nil : reasons.joined(separator: "; ")
        if var known = lastKnown {
            known.state = state
            known.reason = joined ?? known.reason
            return known
        }
        let isGone = (state == .failed || state == .draining) && record.unreadable == nil
        return TrustDomain(
            name: record.name, id: record.id, state: state, reason: joined,
            backend: record.backend ?? fallbackBackend, memoryBytes: record.memoryBytes,
            privateBytes: isGone ? 0 : record.memoryBytes, sharedBytes: 0, convertingBytes: 0,
            residentPrivateBytes: nil,
            residentSharedBytes: nil, vcpus: record.vcpus, keyID: record.keyID, holderPID: record.holderPID ?? 0,
            mrtd: nil, firmware: record.firmware, createdAt: record.createdAt, ownerUID: record.ownerUID,
            kind: record.kind ?? .held)
    }
}
