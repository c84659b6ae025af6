"""No two modules import each other, however far around; the direction of imports itself is held by `make lint`."""

import grimp
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = grimp.build_graph("btc_ray", exclude_type_checking_imports=True)
    names = sorted(graph.modules)
    place = {name: number for number, name in enumerate(names)}
    edges = [(place[name], place[other]) for name in names for other in graph.find_modules_directly_imported_by(name)]
    assert len(edges) > 500, "the graph was not read"
    shape = (len(names), len(names))
    matrix = coo_array(([1] * len(edges), tuple(zip(*edges, strict=True))), shape=shape)
    count, component = connected_components(matrix, directed=True, connection="strong")
    circles = [[name for name in names if component[place[name]] == number] for number in range(count)]
    assert [circle for circle in circles if len(circle) > 1] == []
