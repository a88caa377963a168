"""From the times of all rounds to rows, and from rows to the table that people read."""
import cases
import floors as floors_of
import ratios

# From here on memory is the limit.
LARGE_BYTES = 16 * cases.MB


def rows_of(times, case, cells, libraries, floors, cpus, standins):
    """times[library][cell] = [us or None per round]. A row per cell that Weft and at least one peer have."""
    rows = []
    for cell in cells:
        ours = times.get("weft", {}).get(cell, [])
        known = [t for t in ours if t is not None]
        if not known:
            continue
        row = {"case": case.name, "collective": cell.collective, "type": cell.type, "bytes": cell.bytes,
               "us": {"weft": round(ratios.median(known), 4)}, "ratio": {}, "rounds": len(known)}
        for library in libraries:
            theirs = times.get(library, {}).get(cell, [])
            triple = ratios.ratio(ours, theirs)
            if triple is None:
                continue
            row["us"][library] = round(ratios.median([t for t in theirs if t is not None]), 4)
            if library in cases.PEERS:
                row["ratio"][library] = [float(f"{v:.5g}") for v in triple]
        if row["ratio"]:
            row["best"] = min(row["ratio"], key=lambda name: row["us"][name])
            row["behind"] = ratios.behind(row["ratio"][row["best"]])
        floor = floors_of.of(case, cell, floors, cpus)
        if floor:
            row["floor_us"] = round(floor, 4)
        if "registered" in row["us"] and case.ranks == 2 and cell.type == "f32" and "mapped_us" in floors:
            row["mapped_floor_us"] = round(floors_of.inside(floors["mapped_us"], cell.bytes), 4)
        add_standin(row, standins)
        rows.append(row)
    return rows


def add_standin(row, standins):
    """The best of the peers that this system lacks, as measured once elsewhere, scaled by how fast Open MPI is here today."""
    for entry in standins["rows"]:
        if (entry["case"], entry["collective"], entry["type"]) == (row["case"], row["collective"], row["type"]):
            best, reference = entry["best_us"].get(str(row["bytes"])), entry["openmpi_us"].get(str(row["bytes"]))
            here = row["us"].get("openmpi")
            if best and reference and here:
                row["standin_us"] = round(best * here / reference, 4)


def show_us(us):
    if us is None:
        return "-"
    return f"{us:.2f}" if us < 100 else f"{us:.0f}" if us < 1e5 else f"{us / 1e3:.0f}k"


def show_ratio(triple):
    return f"{triple[0]:.2f} ({triple[1]:.2f}-{triple[2]:.2f})"


def title(row):
    return f"{row['collective']} {row['type']}"


def table(rows, libraries):
    """One table per case: us of each library, floor, and the ratio to the best peer with its interval."""
    lines = []
    shown = ["weft", *[name for name in libraries if name not in ("weft",)]]
    names = {**cases.LIBRARIES, "registered": "registered"}
    for case_name in dict.fromkeys(row["case"] for row in rows):
        mine = [row for row in rows if row["case"] == case_name]
        used = [name for name in shown if any(name in row["us"] for row in mine)]
        standin = any("standin_us" in row for row in mine)
        lines += ["",
                  f"{cases.CASES[case_name].text} ({mine[0]['rounds']} rounds; us; best/Weft: time of the best peer over Weft's, "
                  "above 1 Weft is faster)"]
        lines.append(f"{'':>21} {'size':>7}" + "".join(f"{names[n]:>11}" for n in used) + f"{'floor':>10}{'of floor':>9}" +
                     (f"{'stand-in':>10}" if standin else "") + "  best/Weft")
        before = None
        for row in mine:
            head = title(row) if title(row) != before else ""
            before = title(row)
            floor = row.get("floor_us")
            line = f"{head:>21} {cases.show_size(row['bytes']) if row['bytes'] else '':>7}"
            line += "".join(f"{show_us(row['us'].get(n)):>11}" for n in used)
            line += f"{show_us(floor):>10}" + (f"{100 * floor / row['us']['weft']:>8.0f}%" if floor else f"{'-':>9}")
            if standin:
                line += f"{show_us(row.get('standin_us')):>10}"
            if "best" in row:
                behind = "  BEHIND" if row["behind"] else ""
                line += f"  {show_ratio(row['ratio'][row['best']])} {cases.LIBRARIES[row['best']]}{behind}"
            lines.append(line)
    return lines


def group_of(row):
    return row["case"], row["collective"], row["type"]


def means(rows):
    """[(case, collective, type, geometric mean of best/Weft, worst cell)]"""
    found = []
    for key in dict.fromkeys(group_of(row) for row in rows):
        mine = [row for row in rows if group_of(row) == key and "best" in row]
        if mine:
            worst = min(mine, key=lambda row: row["ratio"][row["best"]][0])
            found.append((*key, ratios.geometric_mean(row["ratio"][row["best"]][0] for row in mine), worst))
    return found


def large_rows(rows):
    """How near the large ones come to the same copies by plain loops."""
    lines = []
    for row in rows:
        if row["bytes"] >= LARGE_BYTES and "mapped_floor_us" in row and "floor_us" in row:
            staged, mapped = row["floor_us"] / row["us"]["weft"], row["mapped_floor_us"] / row["us"]["registered"]
            lines.append(f"{title(row)} {cases.show_size(row['bytes'])}: private buffers at {staged:.0%} of the staged "
                         f"plain loops, registered ones at {mapped:.0%} of the mapped ones")
    return lines


def summary(rows, memory):
    lines = ["", "best/Weft in geometric mean over all sizes, and the worst size:"]
    for case_name, collective, kind, mean, worst in means(rows):
        lines.append(f"  {case_name:<7} {collective:<15} {kind:<5} {mean:6.2f}   worst {worst['ratio'][worst['best']][0]:.2f} at "
                     f"{cases.show_size(worst['bytes']) if worst['bytes'] else 'any size'} ({cases.LIBRARIES[worst['best']]})")
    late = [row for row in rows if row.get("behind")]
    compared = [row for row in rows if "best" in row]
    lines.append(f"{len(late)} of {len(compared)} cells behind the best peer (interval of the ratio below 0.95)")
    lines += large_rows(rows)
    if memory:
        lines += ["", "memory of the hungriest rank above its buffers, after start and barrier / after all cells (MB):"]
        for case_name, by_library in memory.items():
            lines.append(f"  {case_name:<7} " + "   ".join(
                f"{cases.LIBRARIES.get(name, name)} {low / 1024:.1f} / {high / 1024:.1f}"
                for name, (low, high) in by_library.items()))
    return lines
