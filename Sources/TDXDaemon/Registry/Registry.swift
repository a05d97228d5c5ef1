internal import ControlInterface
internal import MemoryUnits

/// Every TD of this daemon and the state it is in. Pure: methods decide and say what is to be done; others do it.
///
///     reserve → building ──built──→ runnable ──stop──→ stopping ──proven──→ (forgotten)
///                  │                   │                  │
///                  │ build failed      │ holder died      │ not all proven
///                  ▼                   ▼                  ▼
///             (forgotten)           failed            draining ──proven later──→ (forgotten)
///
/// A draining TD whose memory is held waits for a reclaim, and nobody looks at it meanwhile.
///
/// A failed TD keeps its place, its reason and its certificate until it is stopped. Once its end is proven, its owner may
/// also use its name again.
struct Registry: Sendable {
    struct Domain: Hashable, Sendable {
        var record: DomainRecord
        var state: TrustDomainState
        var reason: String?
        /// The holder's last answer to Describe.
        var lastKnown: TrustDomain?
        /// Of a failed or draining TD: what is known of its end so far.
        var certificate: TeardownCertificate?
        /// A worker is ending it at this moment.
        var isEnding = false
        /// Draining, and its memory stays with the holder until somebody asks for it.
        var isHeld = false
        /// Draining for good: what is wrong will not come right by waiting.
        var isQuarantined = false
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

    func find(name: DomainName) throws(ControlError) -> Domain {
        guard let id = idByName[name.text], let domain = domains[id] else { throw .noSuchDomain(name: name.text) }
        return domain
    }

    /// Takes the name for a TD that is about to be built.
    ///
    /// A failed TD of the same owner gives its name up once its end is proven. One whose end is not proven, or another
    /// owner's, keeps it until its owner or an admin takes note of it.
    /// - Throws: `ControlError.nameTaken`, nothing changed.
    mutating func reserve(_ record: DomainRecord) throws(ControlError) {
        if let id = try givingUp(record.name, to: record.ownerUID) { forget(id: id) }
        insert(Domain(record: record, state: .building))
    }

    /// Whether `owner` could take the name now.
    /// - Throws: `ControlError.nameTaken`.
    func checkName(_ name: DomainName, for owner: UInt32) throws(ControlError) {
        _ = try givingUp(name.text, to: owner)
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

    /// The holder finished the build.
    /// - Returns: False when the TD failed meanwhile: its holder died.
    mutating func built(id: String, record: DomainRecord, figures: TrustDomain) -> Bool {
        guard domains[id]?.state == .building else { return false }
        domains[id]?.record = record
        domains[id]?.lastKnown = figures
        domains[id]?.state = .runnable
        return true
    }

    enum StopDecision: Hashable, Sendable {
        /// The holder is to be asked.
        case stop(Domain)
        /// The holder keeps the memory and is to be asked for it.
        case reclaim(Domain)
        /// The holder is gone; what is left to prove is to be looked at again.
        case proveAgain(Domain)
        /// It ended before, and this is what is known. The TD is forgotten.
        case ended(TeardownCertificate)
        /// It is quarantined, and stays so: this is what is known.
        case known(TeardownCertificate)
    }

    /// A client wants the TD ended.
    /// - Throws: `noSuchDomain`; `wrongState` while it is being built or ended.
    mutating func beginStop(name: DomainName) throws(ControlError) -> StopDecision {
        let domain = try find(name: name)
        let id = domain.record.id
        if domain.isQuarantined, let certificate = domain.certificate { return .known(certificate) }
        if domain.isQuarantined, domain.record.unreadable != nil {
            domains[id]?.isQuarantined = false
            domains[id]?.isEnding = true
            domains[id]?.state = .stopping
            domains[id]?.reason = nil
            return .stop(domain)
        }
        guard !domain.isEnding, domain.state != .building, domain.state != .stopping else {
            let state = domain.isEnding && domain.state == .failed ? "being reaped" : domain.state.rawValue
            throw .wrongState(name: name.text, state: state, operation: "stop")
        }
        if domain.state == .failed, let certificate = domain.certificate {
            forget(id: id)
            return .ended(certificate)
        }
        // Its holder died while it was built: the creation is still clearing it up.
        guard domain.state != .failed else {
            throw .wrongState(name: name.text, state: "failed, being cleared up", operation: "stop")
        }
        domains[id]?.isEnding = true
        if domain.isHeld { return .reclaim(released(id)) }
        guard domain.state == .runnable else { return .proveAgain(domain) }
        domains[id]?.state = .stopping
        return .stop(domain)
    }

    /// The holder does not end its TD, which goes on as it was.
    /// - Returns: false where another end has come first.
    mutating func stopRefused(id: String) -> Bool {
        guard domains[id]?.state == .stopping else { return false }
        domains[id]?.state = .runnable
        domains[id]?.isEnding = false
        return true
    }

    /// What a client who wants held memory back is to get.
    enum ReclaimDecision: Hashable, Sendable {
        case reclaim(Domain)
        /// Somebody is at it already.
        case hurry(Domain)
    }

    /// A client wants held memory back.
    /// - Throws: `noSuchDomain`; `wrongState` unless the TD's memory is held or on its way.
    mutating func beginReclaim(name: DomainName) throws(ControlError) -> ReclaimDecision {
        let domain = try find(name: name)
        guard domain.state == .draining else {
            throw .wrongState(name: name.text, state: domain.state.rawValue, operation: "reclaim")
        }
        if domain.isHeld {
            domains[domain.record.id]?.isEnding = true
            return .reclaim(released(domain.record.id))
        }
        guard domain.isEnding else {
            throw .wrongState(name: name.text, state: "draining, its memory is back", operation: "reclaim")
        }
        return .hurry(domain)
    }

    private mutating func released(_ id: String) -> Domain {
        domains[id]?.isHeld = false
        domains[id]?.reason = "its memory is being given back"
        return domains[id]!
    }

    /// The TD runs no more, and its memory is still to come.
    /// - Parameter isHeld: until somebody asks for it; otherwise a worker goes on.
    mutating func halted(id: String, certificate: TeardownCertificate, isHeld: Bool) {
        guard let state = domains[id]?.state, state == .stopping || state == .draining else { return }
        domains[id]?.state = .draining
        domains[id]?.certificate = certificate
        domains[id]?.reason = certificate.pending
        domains[id]?.isHeld = isHeld
        domains[id]?.isEnding = !isHeld
    }

    /// The time that a client wanted to wait is over; the end goes on.
    ///
    /// Memory that is held by now stays held, and an end that is over stays over: only an end that somebody is at becomes one
    /// that others may ask to be quicker.
    mutating func deadlinePassed(id: String, certificate: TeardownCertificate) {
        guard let domain = domains[id], domain.isEnding, !domain.isHeld, !domain.isQuarantined,
            domain.state == .stopping
        else { return }
        domains[id]?.state = .draining
        domains[id]?.certificate = certificate
        domains[id]?.reason = certificate.pending
    }

    enum DeathDecision: Hashable, Sendable {
        /// Nobody else is at it: reap what the holder left.
        case reap(Domain)
        /// Whoever builds or ends the TD finds out by itself.
        case attended
        case unknown
    }

    /// The holder's process ended.
    mutating func holderExited(id: String, reason: String) -> DeathDecision {
        guard let domain = domains[id] else { return .unknown }
        switch domain.state {
        case .building:
            domains[id]?.state = .failed
            domains[id]?.reason = reason
            return .attended
        case .runnable:
            domains[id]?.state = .failed
            domains[id]?.reason = reason
            domains[id]?.isEnding = true
            return .reap(domains[id]!)
        case .draining where domain.isHeld:
            domains[id]?.isHeld = false
            domains[id]?.reason = reason
            domains[id]?.isEnding = true
            return .reap(domains[id]!)
        case .stopping, .failed, .draining:
            return .attended
        }
    }

    /// What is to become of a TD when its end has been looked at.
    enum Aftermath: Hashable, Sendable {
        /// A client asked for the end and gets the certificate.
        case forget
        /// Who asked has had an answer already: only what is not complete is worth remembering.
        case forgetComplete
        /// Nobody asked, or not all could be proven and never will be: it stays listed as failed.
        case remember
        /// What is open may still come true: it is looked at again.
        case lookAgain
        /// A zap failed: neither memory nor key id may be given to anybody, and waiting changes nothing.
        case quarantine(String)
    }

    /// What an end has come to.
    mutating func ended(id: String, certificate: TeardownCertificate, aftermath: Aftermath) {
        guard let domain = domains[id] else { return }
        domains[id]?.isEnding = false
        if aftermath == .forget || (aftermath == .forgetComplete && certificate.complete) { return forget(id: id) }
        domains[id]?.certificate = certificate
        domains[id]?.lastKnown?.empty()
        if case .quarantine(let reason) = aftermath {
            domains[id]?.state = .draining
            domains[id]?.isQuarantined = true
            domains[id]?.reason = "quarantined: \(reason)"
            return
        }
        domains[id]?.state = aftermath == .lookAgain ? .draining : .failed
        if !certificate.complete {
            let open = certificate.proofs.filter { !$0.holds }.map(\.name).joined(separator: ", ")
            let why = certificate.failure ?? "not proven: \(open)"
            domains[id]?.reason = domain.state == .failed ? (domain.reason.map { "\($0); \(why)" } ?? why) : why
        }
        if aftermath != .lookAgain { forgetOldFailures() }
    }

    /// Figures from a live holder.
    mutating func refresh(id: String, figures: TrustDomain) {
        guard domains[id] != nil else { return }
        domains[id]?.lastKnown = figures
    }

    /// Changes the record, as it was written to disk.
    mutating func update(id: String, record: DomainRecord) { domains[id]?.record = record }

    mutating func forget(id: String) {
        guard let domain = domains.removeValue(forKey: id) else { return }
        if idByName[domain.record.name] == id { idByName[domain.record.name] = nil }
    }

    /// TDs whose end is not proven and that nobody is looking at: to be looked at again now and then.
    mutating func takeDraining() -> [Domain] {
        let waiting = domains.values.filter { $0.state == .draining && !$0.isEnding && !$0.isHeld && !$0.isQuarantined }
        for domain in waiting { domains[domain.record.id]?.isEnding = true }
        return waiting
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
