def chosen(x):
    return x
