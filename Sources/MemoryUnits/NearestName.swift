/// The candidate that a mistyped name was probably meant to be; nil when none is near.
///
/// Near is at most two bytes, or a third of the candidate, to insert, delete or replace.
public func nearestName(to text: String, among candidates: [String]) -> String? {
    // A name is short. A long text is near none, and takes no time.
    guard text.utf8.count <= 256 else { return nil }
    let nearest = candidates.map { (name: $0, distance: editDistance(text, $0)) }.min { $0.distance < $1.distance }
    guard let nearest, nearest.distance <= max(2, nearest.name.utf8.count / 3) else { return nil }
    return nearest.name
}

/// Levenshtein's: insertions, deletions and replacements of bytes.
private func editDistance(_ a: String, _ b: String) -> Int {
    let target = Array(b.utf8)
    var row = Array(0...target.count)
    for (i, byte) in a.utf8.enumerated() {
        var diagonal = row[0]
        row[0] = i + 1
        for j in target.indices {
            let replaced = diagonal + (byte == target[j] ? 0 : 1)
            diagonal = row[j + 1]
            row[j + 1] = min(replaced, row[j] + 1, row[j + 1] + 1)
        }
    }
    return row[target.count]
}
